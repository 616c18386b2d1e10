"""The story of each command, about one page each."""
