"""What stage one can learn on: one objective per file, chosen by name in a recipe (group ``repkit.pretraining``)."""
