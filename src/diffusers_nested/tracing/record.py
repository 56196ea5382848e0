"""The record of one call: whose rows reach the UNet, what its layers do there, and what is kept of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import NestedAdapterError, RowsNotFoundError
from ..injection import RowFinder, acting_in
from ..injection.masks import size_at
from ..pipelines.nested_call import NestedCall
from ..pipelines.prompt_words import PROMPTS, count_prompts
from ..subjects import ResolvedSubject
from .kept import Kept, Key
from .layer_reading import Inputs, RowReading, read_layer
from .locate import Site
from .outputs import picture_in


@dataclass(frozen=True, eq=False)
class TracedSubject:
    """A subject of a traced call.

    Attributes:
        subject: As the call resolved it.
        adapter: The ``LoadedAdapter`` that it uses.
        gate: Of the UNet; its lock is held while the adapter encodes.
    """

    subject: ResolvedSubject
    adapter: Any
    gate: Any


@dataclass(eq=False)
class _Pass:
    """One call of the UNet.

    Attributes:
        rows: Row of the batch -> number of its picture; the first row of each picture.
        step: Which step it belongs to.
        size: Height and width of the latents.
    """

    rows: Mapping[int, int]
    step: int
    size: tuple[int, int]


class CallRecord:
    """What is known of one call. Recording never raises: what goes wrong is said when a result is asked for.

    Args:
        pipeline: The pipeline.
        call: Its subjects; None for a plain call.
        heads: Whether heads are kept apart.
        steps: Whether steps are kept apart.

    Attributes:
        pipeline: The pipeline.
        kept: What is kept.
        prompts: The arguments of ``encode_prompt``, by name.
        problem: Why there is nothing to show; None if all is well.
        output: What the call returned; None while it runs.
        size: Height and width of the latents.
        steps: The number of steps until now.
        pictures: The number of pictures; the frames of a video count one by one.
        sizes: Layer path -> size (h, w) of its maps.
        heads: Layer path -> number of heads.
    """

    def __init__(self, pipeline: Any, call: NestedCall | None, heads: bool, steps: bool) -> None:
        self.pipeline = pipeline
        self.kept = Kept(steps)
        self.prompts: dict[str, Any] = {}
        self.problem: NestedAdapterError | None = None
        self.output: Any = None
        self.size = (0, 0)
        self.steps = 0
        self.pictures = 0
        self.sizes: dict[str, tuple[int, int]] = {}
        self.heads: dict[str, int] = {}
        self._heads = heads
        self._subjects = [] if call is None else [[_traced(call, one) for one in row] for row in call.subjects]
        self._finder: RowFinder | None = None
        self._encoded: Tensor | None = None
        self._num_prompts = 1
        self._frames = 1
        self._per_prompt = 1
        self._timestep: object = None
        self._pass: _Pass | None = None

    def encoded(self, arguments: Mapping[str, Any], positive: Tensor, negative: Tensor | None) -> None:
        """Prompts were encoded; the first are the call's, a callback may encode others."""
        if positive is self._encoded:
            return
        self._encoded = positive
        prompts = {name: arguments.get(name) for name in PROMPTS}
        try:
            count = count_prompts(prompts)
            if self._finder is None:
                self.prompts = prompts
                self._num_prompts, self._per_prompt = count, len(positive) // count
                self._finder = RowFinder(positive, count, negative, is_watched=True)
            else:
                self._finder.add(positive, count, negative)
        except NestedAdapterError as error:
            self.fail(error)

    def begin_pass(self, sample: Tensor, timestep: object, states: Tensor) -> None:
        """The UNet is called, with latents (B, C, h, w) or (B, C, frames, h, w), and embeddings (rows, T, D)."""
        if self.problem is not None:
            return
        if self._finder is None:
            name = type(self.pipeline).__name__
            self.fail(
                RowsNotFoundError(f"{name} reached its UNet without calling encode_prompt: its rows are unknown.")
            )
            return
        if timestep is not self._timestep:
            self._timestep, self.steps = timestep, self.steps + 1
        self._frames = sample.shape[2] if sample.ndim == 5 else 1
        self.size = (sample.shape[-2], sample.shape[-1])
        try:
            rows = self._rows(self._finder, states)
        except NestedAdapterError as error:
            self.fail(error)
            return
        self.pictures = max([self.pictures, *[picture + 1 for picture in rows.values()]])
        self._pass = _Pass(rows, self.steps - 1, self.size)

    def _rows(self, finder: RowFinder, states: Tensor) -> dict[int, int]:
        """The first row of each picture, with the picture's number."""
        found = finder.find(states, self._frames)
        pictures = finder.pictures(found[:: self._frames])
        rows: dict[int, int] = {}
        for row, number in enumerate(found):
            if number is None or number >= self._num_prompts:  # a prompt of a callback has other words
                continue
            picture = pictures[row // self._frames] * self._frames + row % self._frames
            if picture not in rows.values():  # later ones are variants, as with perturbed attention guidance
                rows[row] = picture
        return rows

    def end_pass(self) -> None:
        """The UNet is done."""
        self._pass = None

    def see(self, site: Site, inputs: Inputs) -> None:
        """A layer is about to run with these inputs; see ``read_layer``."""
        if self._pass is None or self.problem is not None or not self._pass.rows:
            return
        try:
            size = self._size_of(site, self._pass.size, inputs[0])
            for reading in read_layer(site.layer, acting_in(site.layer), list(self._pass.rows), inputs, self._heads):
                self._keep(site, size, self._pass, reading)
        except NestedAdapterError as error:
            self.fail(error)
        except torch.OutOfMemoryError:
            text = "The trace ran out of memory. Trace fewer layers=..., or leave out heads=True."
            self.fail(NestedAdapterError(text))

    def fail(self, problem: NestedAdapterError) -> None:
        """Keep nothing more, and say why when asked."""
        self.problem = self.problem or problem
        self._pass = None
        self.kept.clear()

    @staticmethod
    def _size_of(site: Site, latents: tuple[int, int], hidden_states: Tensor) -> tuple[int, int]:
        height, width = size_at(latents, site.level)
        if height * width != hidden_states.shape[1]:
            raise RowsNotFoundError(
                f"The layer {site.path} has {hidden_states.shape[1]} queries, but the latents of {latents[0]} x "
                f"{latents[1]} have {height} x {width} places there: something changes their size inside the UNet."
            )
        return height, width

    def _keep(self, site: Site, size: tuple[int, int], now: _Pass, reading: RowReading) -> None:
        picture, step = now.rows[reading.row], now.step
        self.kept.add(Key("words", site.path, picture, step=step), reading.words)
        self.kept.add(Key("word_entropy", site.path, picture, step=step), reading.entropy)
        self.sizes[site.path], self.heads[site.path] = size, site.layer.heads
        # the heads of different layers have nothing in common, so their mean would say nothing
        place = site.path if self._heads else size
        for slot, one in reading.subjects.items():
            self.kept.add(Key("tokens", place, picture, slot, step), one.tokens)
            self.kept.add(Key("token_entropy", site.path, picture, slot, step), one.entropy)
            self.kept.add(Key("values", site.path, picture, slot, step), one.values)

    def picture(self, number: int) -> Image.Image | None:
        """A picture that the call returned, as PIL; None if it has none."""
        return picture_in(self.output, number)

    def prompt_of(self, picture: int) -> int:
        """The number of a picture's prompt."""
        return min(picture // self._frames // self._per_prompt, self._num_prompts - 1)

    def subjects_of(self, picture: int) -> Sequence[TracedSubject]:
        """The subjects of a picture."""
        return self._subjects[self.prompt_of(picture)] if self._subjects else ()


def _traced(call: NestedCall, subject: ResolvedSubject) -> TracedSubject:
    return TracedSubject(subject, call.adapter_of(subject), call.gate)
