"""``python -m diffusers_nested.cli``."""

from . import main

raise SystemExit(main())
