"""How the models of the miniature world are trained."""
