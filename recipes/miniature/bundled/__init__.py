"""How the bundled models of the miniature world were trained and measured."""
