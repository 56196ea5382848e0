"""A fixture for tests that train, each as if in a process of its own."""

from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState


def new_process() -> None:
    """Go on as if in another process: accelerate keeps the precision of a process's first run for all others."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """A test's runs are the first of a process."""
    new_process()
    yield
    new_process()
