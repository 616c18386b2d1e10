"""What writes docs/reference; run by docs/generate.py."""
