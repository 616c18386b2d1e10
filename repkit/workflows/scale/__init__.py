"""``repkit scale``: hours x recipes x seeds of stage one, and the curve of the gate; see `run`."""
