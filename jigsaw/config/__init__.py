"""Recipes: their schema, how they are loaded, and their tiny preset. Imports no torch."""
