"""Waveforms to frames, and what is done with frames before a model sees them."""
