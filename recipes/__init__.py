"""How what comes with the package was made; run from a clone of the repository."""
