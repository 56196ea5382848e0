"""Recipes of the miniature world: `bundled` makes what the package carries, but for the base, which `words` makes."""
