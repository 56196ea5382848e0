"""How far it is from a folder to a loaded adapter, and from a photo to the first attention: calls and files.

Run as ``python -m benchmarks.ways``. Counted are the calls of the package's own functions, comprehensions left out, and
how often the next one stands in another file than the one before.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline

import diffusers_nested
from diffusers_nested import miniature

PACKAGE = str(Path(diffusers_nested.__file__).parent)


class _Reached(Exception):
    """The place to which calls are counted."""


class Way:
    """Counts calls of the package's functions.

    Args:
        until: Part of the name of the file at whose first call the counting ends.
    """

    def __init__(self, until: str | None = None) -> None:
        self.files: list[str] = []
        self._until = until

    def __call__(self, frame: Any, event: str, _: Any) -> None:
        """As ``sys.setprofile`` takes it."""
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
            return
        file = code.co_filename[len(PACKAGE) + 1 :]
        if self._until is not None and file.startswith(self._until):
            sys.setprofile(None)
            raise _Reached
        self.files.append(file)

    def measure(self, go: Callable[[], Any]) -> dict[str, int]:
        """Calls, files, and changes of file on the way."""
        sys.setprofile(self)
        try:
            go()
        except _Reached:
            pass
        finally:
            sys.setprofile(None)
        changes = sum(one != other for one, other in zip(self.files, self.files[1:], strict=False))
        return {"calls": len(self.files), "files": len(set(self.files)), "changes of file": changes}


def main() -> None:
    """Measure both ways on the miniature."""
    torch.manual_seed(0)
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(miniature.path())
    pipe.set_progress_bar_config(disable=True)
    miniature.path("people"), miniature.example("mira")
    loading = Way().measure(lambda: pipe.load_nested_adapter(miniature.path("people")))
    photo = miniature.example("mira")
    call = Way("attention.py").measure(
        lambda: pipe("a photo of a person", nested_adapter_image=photo, num_inference_steps=2)
    )
    print(json.dumps({"a local folder": loading, "a photo": call}, indent=1))


if __name__ == "__main__":
    main()
