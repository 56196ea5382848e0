"""A repository of IP-Adapters, with their vision towers."""

from pathlib import Path

import pytest

import tiny_pipeline as tiny
from ip_adapter_files import repository


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return repository(tmp_path_factory.mktemp("ip"), tiny.components()["unet"])
