"""``repkit train-ser``: conditions of a recipe over the splits of a protocol, as jobs; see `run`."""
