"""HF_HUB_OFFLINE=1 is read when huggingface_hub is imported, so the test runs in a separate process."""

import os
import subprocess
import sys

import pytest

from diffusers_nested import miniature
from hub.steps import published

SCRIPT = """
import sys
from diffusers_nested import AdapterLoadError, miniature
pipe = miniature.load_pipeline()
pipe.load_nested_adapter("alice/people", cache_dir=sys.argv[1])
print(list(pipe.nested_adapters))
try:
    pipe.load_nested_adapter("alice/pets", cache_dir=sys.argv[1])
except AdapterLoadError as error:
    print(error)
print(list(pipe.nested_adapters))
"""


@pytest.mark.slow
def test_environment_variable(hub, cache):
    for name in ("people", "pets"):
        published(hub, miniature.path(name), f"alice/{name}")
    pipeline = miniature.load_pipeline()
    pipeline.load_nested_adapter("alice/people", cache_dir=cache)
    hub.requests.clear()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(cache)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, refusal, last = done.stdout.splitlines()
    assert first == last == "['person']"
    assert "alice/pets" in refusal and "HF_HUB_OFFLINE" in refusal
    assert not hub.requests
