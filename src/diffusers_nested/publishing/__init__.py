"""Adapters for others: their card, their files, and the one commit that they become."""

from .publication import Publication, prepare_publication
from .publish import show
from .publishable import Publishable

__all__ = ["Publication", "Publishable", "prepare_publication", "show"]
