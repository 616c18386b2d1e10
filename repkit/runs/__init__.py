"""Run directories, provenance and seeding."""
