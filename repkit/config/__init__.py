"""Recipes: typed data that names components and their settings."""

from repkit.config.load import load_recipe, refuse_unread
from repkit.config.locate import find_recipe, list_recipes
from repkit.config.schema import ComponentTable, Condition, PretrainRecipe, SerRecipe

__all__ = [
    "ComponentTable",
    "Condition",
    "PretrainRecipe",
    "SerRecipe",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "refuse_unread",
]
