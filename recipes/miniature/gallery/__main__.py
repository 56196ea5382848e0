"""Draw the pictures of the gallery's page: ``python -m recipes.miniature.gallery docs/images``."""

import argparse
import logging
from pathlib import Path

from . import draw

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    draw.draw_gallery(parser.parse_args().folder)
