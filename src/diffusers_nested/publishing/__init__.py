"""Adapters for others: their card, their files, and the one commit that they become."""

from .publication import Publication, prepare_publication
from .publish import publish, show
from .push import push_to_hub

__all__ = ["Publication", "prepare_publication", "publish", "push_to_hub", "show"]
