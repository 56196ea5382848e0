"""Publishing adapters on the Hub: model card, files, and a single commit."""

from .parts import save_parts
from .publication import Publication, prepare_publication
from .publish import show
from .publishable import Publishable

__all__ = ["Publication", "Publishable", "prepare_publication", "save_parts", "show"]
