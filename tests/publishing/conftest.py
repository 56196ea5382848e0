"""Fixtures for tests that load from the Hub, and what a card is written from."""

import pytest

from cards import LOAD
from diffusers_nested.publishing import prepare_publication
from hub.fixtures import cache, folder, only_pipeline, pipeline, saved_adapter
from hub.steps import BASE

__all__ = ["cache", "folder", "only_pipeline", "pipeline", "saved_adapter"]


@pytest.fixture(scope="module")
def facts(saved_adapter):
    """What is known of an adapter when its card is written."""
    return prepare_publication(saved_adapter, "alice/nested", load=LOAD, base_model=BASE).facts
