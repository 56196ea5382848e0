"""Recipes of the miniature world: its language, its models, and what they are measured by."""
