"""The story of each command, about one page each; of those with a folder it stands in ``run``."""
