"""Protocols, the audit of folds, metrics, intervals and scores: what makes results comparable, closed to plugins."""
