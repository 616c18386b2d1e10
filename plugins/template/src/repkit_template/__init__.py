"""A repkit plugin to copy: one small working component for every extension point."""
