"""The one pipeline behind all visitors: it draws for one at a time, and stops when asked."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Event, Lock
from typing import Any

from PIL import Image

from ..backbones import backbone_of
from ..prompts import unread
from .maps import with_maps
from .shots import Drawn, Shot
from .wish import Wish

Tell = Callable[[int, int], None]  # steps done, and steps in all


class Cancelled(Exception):
    """The visitor does not want the pictures any more."""


class Studio:
    """Draws pictures with a pipeline.

    Nothing of a visitor is kept but what the pipeline's own cache of subjects holds, which only the very same photos
    find.

    Args:
        pipeline: With adapters.
        settings: Keywords of every call, such as ``height``.
        finish: What is done to each picture.
    """

    def __init__(
        self,
        pipeline: Any,
        settings: Mapping[str, Any],
        finish: Callable[[Image.Image], Image.Image] = lambda picture: picture,
    ) -> None:
        self.pipeline = pipeline
        self._settings, self._finish = settings, finish
        self._lock = Lock()
        pipeline.set_progress_bar_config(disable=True)

    def draw(self, wish: Wish, shots: Sequence[Shot], tell: Tell, stop: Event) -> Drawn:
        """Draw every shot.

        Args:
            wish: What to draw.
            shots: Which pictures.
            tell: Is told of every step.
            stop: Once set, no further step is taken.

        Raises:
            Cancelled: ``stop`` was set.
            NestedAdapterError: The wish does not fit the pipeline or its adapters.
        """
        steps = int(wish.num_inference_steps)
        pictures, maps = {}, None
        with self._lock:
            for index, shot in enumerate(shots):
                draw = partial(self._picture, wish, shot, _Steps(index * steps, len(shots) * steps, tell, stop))
                if wish.maps and wish.subjects and index == 0:
                    words = [str(subject.token) for subject in wish.subjects.values()]
                    pictures[shot], maps = with_maps(self.pipeline, draw, wish.prompt, words)
                else:
                    pictures[shot] = draw()
        return Drawn(pictures, maps)

    def unread(self, prompt: str) -> str:
        """The end of a prompt that is too long for the text encoder; "" if it is not."""
        tokenizer = backbone_of(self.pipeline.unet).tokenizers_of(self.pipeline)[-1]
        return unread(prompt, tokenizer, self.pipeline.maybe_convert_prompt)

    def _picture(self, wish: Wish, shot: Shot, steps: "_Steps") -> Image.Image:
        steps.check()
        keywords = {**self._settings, **wish.keywords(shot.seed, shot.scale)}
        try:
            return self._finish(self.pipeline(**keywords, callback_on_step_end=steps).images[0])
        finally:
            self.pipeline.maybe_free_model_hooks()  # which a call that was left did not do


class _Steps:
    """Follows the steps of one call."""

    def __init__(self, before: int, total: int, tell: Tell, stop: Event) -> None:
        self._done, self._total, self._tell, self._stop = before, total, tell, stop

    def check(self) -> None:
        if self._stop.is_set():
            raise Cancelled

    def __call__(self, pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        self.check()
        self._done += 1
        self._tell(min(self._done, self._total), self._total)
        return values


class Visits:
    """Which visitor has what in work, so that each stops only their own."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: defaultdict[str, list[Event]] = defaultdict(list)

    @contextmanager
    def work(self, visitor: str) -> Iterator[Event]:
        """Something is done for a visitor; the event is set when they want it to stop."""
        stop = Event()
        with self._lock:
            self._running[visitor].append(stop)
        try:
            yield stop
        finally:
            with self._lock:
                self._running[visitor].remove(stop)
                if not self._running[visitor]:
                    del self._running[visitor]

    def stop(self, visitor: str) -> bool:
        """Stop what is done for a visitor; whether there was something."""
        with self._lock:
            running = self._running.get(visitor, ())
            for stop in running:
                stop.set()
            return bool(running)
