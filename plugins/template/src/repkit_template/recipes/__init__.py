"""A recipe: the path of a TOML file that the distribution ships."""

from pathlib import Path

TEMPLATE = Path(__file__).with_name("template.toml")
