"""Recipes of the miniature world: `bundled` made what the package carries, `words` makes the next base."""
