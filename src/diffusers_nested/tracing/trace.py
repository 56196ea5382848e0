"""``trace(pipe)``: look inside the calls of a pipeline."""

from collections.abc import Sequence
from typing import Any

from ..errors import NestedAdapterError
from ..pipelines.refused import check_pipeline
from .follow import Followed, follow, telling_points
from .numbers import numbers
from .queries import Queries, queries_of
from .record import CallRecord
from .recorder import Recorder
from .values import ValueMap, value_map
from .word_map import WordMap, word_map


def trace(
    pipeline: Any, *, layers: str | Sequence[str] | None = None, heads: bool = False, steps: bool = False
) -> "Trace":
    """Look inside the calls of a pipeline.

    ```python
    with trace(pipe) as inside:
        image = pipe("a photo of a person on the beach", nested_adapter_image=photo).images[0]
    inside.word_map("person").overlay()
    ```

    The pictures stay what they are, bit for bit. By default the means over all steps and heads are kept, so memory does
    not grow with the number of steps.

    Args:
        pipeline: Any pipeline that supports adapters, with or without one.
        layers: Which cross-attention layers: paths, or beginnings of paths such as ``"up_blocks"``. None for all.
        heads: Keep the heads of each layer apart.
        steps: Keep the steps apart, in main memory; the device is waited for at every layer.

    Raises:
        NestedAdapterError: The pipeline cannot be traced, its UNet is compiled, or it has no such layer.
    """
    return Trace(pipeline, layers=layers, heads=heads, steps=steps)


class Trace:
    """What a pipeline's call does inside; see ``trace``.

    It records in a ``with`` block, the calls of the thread that entered it, and shows the last one that has ended, or
    inside a callback the one that is running. Calls inside callbacks, and of other pipelines that share the UNet, are
    kept apart. After the block, results stay.
    """

    def __init__(
        self, pipeline: Any, *, layers: str | Sequence[str] | None = None, heads: bool = False, steps: bool = False
    ) -> None:
        check_pipeline(pipeline)
        self._recorder = Recorder(pipeline, layers, heads, steps)

    def __enter__(self) -> "Trace":
        """Begin to record.

        Raises:
            NestedAdapterError: This trace is recording already, or the UNet has been compiled.
        """
        if self._recorder.is_started:
            raise NestedAdapterError("This trace is recording already. For a trace inside it, call trace(pipe) again.")
        self._recorder.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the UNet as it was."""
        self._recorder.stop()

    @property
    def layers(self) -> list[str]:
        """The paths of the traced layers, in the order of the UNet's modules."""
        return [site.path for site in self._recorder.sites]

    @property
    def num_pictures(self) -> int:
        """How many pictures the call made; the frames of a video count one by one."""
        return self._record().pictures

    @property
    def num_steps(self) -> int:
        """How many denoising steps have been recorded."""
        return self._record().steps

    @property
    def num_bytes(self) -> int:
        """The memory that is in use for what is kept."""
        return self._record().kept.size

    def word_map(
        self,
        word: str | int | Sequence[int],
        *,
        picture: int = 0,
        layer: str | None = None,
        step: int | None = None,
        head: int | None = None,
    ) -> WordMap:
        """Where the picture looks for a word: the attention that the word gets at each place.

        Args:
            word: A word or phrase of the prompt, all its occurrences together; or positions in the prompt's embeddings.
            picture: Which picture of the call, counted from 0.
            layer: A layer's path, or the beginning of one; the mean of all these layers. None for all.
            step: Which step, with ``trace(steps=True)``; None for all.
            head: Which head, with ``trace(heads=True)``; None for all.

        Raises:
            PromptTokenError: The word is not in the prompt; the message shows how the prompt is read.
            NestedAdapterError: Nothing has been recorded, or not this part.
        """
        return word_map(self._record(), word, picture, layer, step, head)

    def values(
        self,
        layer: str | None = None,
        step: int | None = None,
        *,
        subject: str | int | None = None,
        picture: int = 0,
        head: int | None = None,
    ) -> ValueMap:
        """The values v*_q that the queries read at a subject's word in a layer (Figure 4 of the paper).

        Args:
            layer: A layer's path, or a beginning that only one path has; None for the last of the layers with the
                finest maps.
            step: Which step, with ``trace(steps=True)``; None for the mean of all.
            subject: The subject's word, or its number in the call; may be left out if there is only one.
            picture: Which picture of the call, counted from 0.
            head: Which head; None for all of them side by side.

        Raises:
            NestedAdapterError: Nothing has been recorded, there is no subject, or its mechanism has no such values.
        """
        return value_map(self._record(), layer, step, subject, picture, head)

    def follow(
        self,
        point: tuple[float, float],
        *,
        subject: str | int | None = None,
        picture: int = 0,
        layer: str | None = None,
        step: int | None = None,
        head: int | None = None,
    ) -> Followed:
        """From a point of the picture to the subject tokens that it reads, and to places of the photos (Figure 5).

        Args:
            point: (x, y) in pixels of the picture, from its top left corner.
            subject: The subject's word, or its number in the call; may be left out if there is only one.
            picture: Which picture of the call, counted from 0.
            layer: A layer's path or a beginning of one, with ``trace(heads=True)``; None for all.
            step: Which step, with ``trace(steps=True)``; None for all.
            head: Which head, with ``trace(heads=True)``; None for all.

        Raises:
            NestedAdapterError: The point is outside, nothing has been recorded, or the subject's mechanism or encoder
                has no attention to follow.
        """
        return follow(self._record(), point, subject, picture, layer, step, head)

    def points(
        self, count: int = 3, *, subject: str | int | None = None, picture: int = 0
    ) -> list[tuple[float, float]]:
        """Points to follow: apart from each other, where the picture looks for the subject's word and reads of it.

        Args:
            count: How many at most.
            subject: The subject's word, or its number in the call; may be left out if there is only one.
            picture: Which picture of the call, counted from 0.

        Raises:
            NestedAdapterError: See ``follow``.
        """
        return telling_points(self._record(), count, subject, picture)

    def queries(self, *, subject: str | int | None = None, picture: int = 0) -> Queries:
        """Where on the photos each learned query of the subject's encoder looks (Figure 6).

        Args:
            subject: The subject's word, or its number in the call; may be left out if there is only one.
            picture: Which picture of the call, counted from 0.

        Raises:
            NestedAdapterError: Nothing has been recorded, there is no subject or no photo of it, or its encoder has no
                queries that look at places.
        """
        return queries_of(self._record(), subject, picture)

    def numbers(self, *, picture: int = 0) -> dict[str, Any]:
        """Shares of attention, entropies, and the subject tokens that are read most; ready for JSON.

        Args:
            picture: Which picture of the call, counted from 0.

        Raises:
            NestedAdapterError: Nothing has been recorded.
        """
        return numbers(self._record(), picture)

    def _record(self) -> CallRecord:
        record = self._recorder.record()
        if record is None:
            raise NestedAdapterError(f"Nothing has been traced yet. {self._why_nothing()}")
        if record.problem is not None:
            raise record.problem
        return record

    def _why_nothing(self) -> str:
        if self._recorder.failed:
            return "The call inside the `with` block raised an error, and what it did until then is not kept."
        if self._recorder.others:
            return "Other pipelines were called inside the `with` block: trace the one that makes the picture."
        return "Call the pipeline inside the block: with trace(pipe) as inside: pipe(...)"
