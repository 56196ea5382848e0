"""The app of diffusers-nested, as a Space runs it."""

import os

from diffusers_nested.cli import main

# Flags of `diffusers-nested app`, such as "--pipeline … --adapter …", as a variable of the Space; none: the miniature.
flags = os.environ.get("NESTED_APP", "").split()
raise SystemExit(main(["app", "--server-name", "0.0.0.0", "--server-port", "7860", *flags]))
