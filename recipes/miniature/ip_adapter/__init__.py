"""IP-Adapters for the miniature, and their place beside nested adapters."""
