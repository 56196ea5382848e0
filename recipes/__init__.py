"""How the models in the package were made; run from a clone of the repository."""
