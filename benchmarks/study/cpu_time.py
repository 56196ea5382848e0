"""How long the study computes: minutes of one core, kept per adapter and comparison, added up over restarts."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def counted(table: Path, name: str) -> Iterator[None]:
    """Add the processor time of the block to ``name`` in a JSON table of minutes; nothing if it did next to nothing."""
    start = time.process_time()
    try:
        yield
    finally:
        minutes = (time.process_time() - start) / 60
        spent = json.loads(table.read_text()) if table.exists() else {}
        if minutes > 0.5:  # an adapter that was there already
            spent[name] = round(spent.get(name, 0) + minutes, 1)
        table.write_text(json.dumps(spent, indent=1) + "\n")
