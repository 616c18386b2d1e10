"""Corpora: where utterances, their labels and their sound come from. Nothing here imports torch."""
