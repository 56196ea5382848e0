"""``python -m diffusers_nested``."""

from .cli import main

raise SystemExit(main())
