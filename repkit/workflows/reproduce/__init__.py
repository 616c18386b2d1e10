"""``repkit reproduce``: the cells of a paper's table beside ours; see `run`."""
