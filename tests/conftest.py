"""Every test's Hub is a server on this machine: huggingface_hub reads its settings when it is imported."""

import gc
import os
import shutil
import tempfile

import pytest

from hub.server import HubServer

# The libraries' objects alone are a million: looking through all of them for cycles took a tenth of the suite's time.
gc.set_threshold(50_000, 20, 20)

# Each worker of pytest-xdist is a process of its own, with its own server and cache.
SERVER = HubServer()
HOME = tempfile.mkdtemp(prefix="hf-home-")
os.environ |= {
    "HF_ENDPOINT": SERVER.url,
    "HF_HOME": HOME,
    "HF_HUB_DISABLE_XET": "1",  # large files go over plain HTTP
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
    os.environ.pop(name, None)
SERVER.start()


def pytest_unconfigure():
    SERVER.shutdown()
    SERVER.server_close()
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def hub():
    """The Hub, empty."""
    SERVER.reset()
    return SERVER
