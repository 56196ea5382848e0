"""Places the subjects of one pipeline call on the rows that reach the UNet."""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import NestedAdapterError, RowsNotFoundError
from .groups import RowGroup, rows_of
from .placed import Kind, PlacedSubject, ProjectedSubject
from .rows import Finder
from .steps import StepCounter
from .word_maps import WordMaps

# The subjects of a prompt, each with the positions of its word.
Subjects = Sequence[tuple[ProjectedSubject, tuple[int, ...]]]
# Or why they cannot stand in it, which matters only if its rows reach the UNet.
Prompt = Subjects | NestedAdapterError
# The numbers of the prompts that a row holds as prompt and as negative prompt; at most one is not None.
Row = tuple[int | None, int | None]


class Placement:
    """Places the subjects of one pipeline call, again whenever other rows reach the UNet.

    Args:
        prompts: Per prompt, its subjects and their token positions, numbered as the finder does.
        finder: Tells which row belongs to which prompt.
        counter: Tells which denoising step a UNet call belongs to; needed only if a subject acts in some steps.
    """

    def __init__(self, prompts: Sequence[Prompt], finder: Finder, counter: StepCounter | None = None) -> None:
        self._prompts = list(prompts)
        self._finder = finder
        self._counter = counter
        # in later prompts, the same subjects stand
        self._reads_empty_image = any([_reads_empty_image(prompt) for prompt in prompts])
        self._placed: dict[Hashable, tuple[RowGroup, ...]] = {}
        self._maps = WordMaps()

    def add(self, prompts: Sequence[Prompt], positive: Tensor, negative: Tensor | None) -> None:
        """Add prompts, with what ``encode_prompt`` returned for them."""
        self._prompts += prompts
        self._finder.add(positive, len(prompts), negative)

    def begin_loop(self) -> None:
        """Start a new loop of denoising."""
        self._maps.restart()
        if self._counter is not None:
            self._counter.restart()

    @property
    def has_acted(self) -> bool:
        """Whether a row with a prompt has reached the UNet."""
        return self._finder.has_found

    def groups(self, sample: Tensor, timestep: object, states: Tensor) -> list[tuple[RowGroup, list[bool]]]:
        """Groups of rows for one call of the UNet, each with a flag per subject: whether it acts in this step.

        Args:
            sample: Latents (B, C, h, w), or (B, C, frames, h, w) in a video UNet.
            timestep: The timestep object of the pipeline's loop.
            states: Prompt embeddings, (B, T, D) or (B · frames, T, D).

        Raises:
            RowsNotFoundError: There are not as many prompts as latents.
            NestedAdapterError: A row carries a prompt in which the subjects cannot stand.
        """
        if self._counter is not None:
            self._counter.see(timestep)
        frames = sample.shape[2] if sample.ndim == 5 else 1
        if len(states) != len(sample) * frames:
            # plain attention fails here too, but ours would broadcast one row to all
            raise RowsNotFoundError(
                f"{len(states)} rows of prompt embeddings reached the UNet for {len(sample) * frames} latents. Several "
                "input images need as many prompts, or num_images_per_prompt. A callback that drops rows must keep one "
                "per picture; diffusers' CFG cutoff keeps only the last one, so use it with a single picture."
            )
        rows = self._rows(states, frames)
        size = (sample.shape[-2], sample.shape[-1])
        if (rows, size) not in self._placed:
            self._placed[rows, size] = self._place(rows, size, states, frames)
        for group in self._placed[rows, size]:
            group.locate()
        return [(group, [self._acts(kind) for kind in group.kinds]) for group in self._placed[rows, size]]

    def _rows(self, states: Tensor, frames: int) -> tuple[Row, ...]:
        found = self._finder.find(states, frames)
        negatives = self._finder.find_negative(states, frames) if self._reads_empty_image else [None] * len(found)
        return tuple(zip(found, negatives, strict=True))

    def _acts(self, kind: Kind) -> bool:
        return self._counter is None or self._counter.within(*kind.steps)

    def _place(self, rows: Sequence[Row], size: tuple[int, int], like: Tensor, frames: int) -> tuple[RowGroup, ...]:
        together: dict[tuple[Kind, ...], dict[int, Subjects]] = {}
        for row, (number, negative) in enumerate(rows):
            subjects = self._empty_images_of(negative) if number is None else self._subjects_of(number)
            if subjects:
                kinds = tuple([subject.kind for subject, _ in subjects])
                together.setdefault(kinds, {})[row] = subjects
        pictures = self._finder.pictures([number for number, _ in rows[::frames]])
        places = [(picture, frame) for picture in pictures for frame in range(frames)]
        return tuple([self._group(members, size, like, places) for members in together.values()])

    def _group(
        self, members: Mapping[int, Subjects], size: tuple[int, int], like: Tensor, places: Sequence[Hashable]
    ) -> RowGroup:
        """A group of rows from their subjects, whose kinds agree slot by slot, and the picture of each row."""
        slots = list(zip(*members.values(), strict=True))
        maps = None
        if slots[0][0][0].kind.mechanism.locates:
            rows = [_map_keys(subjects, places[row]) for row, subjects in members.items()]
            maps = self._maps.of_group(list(zip(*rows, strict=True)), size, like)
        placed = [_placed_at(slot, like) for slot in slots]
        others = [row for row in range(len(like)) if row not in members]
        if not others:
            return RowGroup(placed, size=size, batch=len(like), maps=maps)
        rows = [rows_of(some, like.device) for some in (list(members), others)]
        return RowGroup(placed, *rows, size=size, batch=len(like), maps=maps)

    def _empty_images_of(self, number: int | None) -> Subjects:
        """What acts in a row of a prompt's negative prompt, at no word of it."""
        if number is None:
            return ()
        acting = []
        for subject, _ in self._subjects_of(number):
            if isinstance(subject.empty, NestedAdapterError):
                raise subject.empty
            if subject.empty is not None:
                acting.append((subject.empty, (0,)))  # any position: the row has it
        return acting

    def _subjects_of(self, number: int) -> Subjects:
        prompt = self._prompts[number]
        if isinstance(prompt, NestedAdapterError):
            raise prompt
        return prompt


def _reads_empty_image(prompt: Prompt) -> bool:
    return not isinstance(prompt, NestedAdapterError) and any([one.kind.reads_empty_image for one, _ in prompt])


def _map_keys(subjects: Subjects, place: Hashable) -> list[Hashable]:
    """Whose map each subject of a row uses: of those at the same word, which masks keep apart, that of the first."""
    first: dict[tuple[int, ...], ProjectedSubject] = {}
    return [(first.setdefault(positions, subject), place) for subject, positions in subjects]


def _placed_at(slot: Subjects, like: Tensor) -> PlacedSubject:
    """A subject for each row, at its positions there."""
    positions = torch.zeros(len(slot), like.shape[1], dtype=like.dtype)
    for i, (_, where) in enumerate(slot):
        positions[i, list(where)] = 1
    subjects = tuple([subject for subject, _ in slot])
    alone = len(set(map(id, subjects))) == 1
    return PlacedSubject(subjects[:1] if alone else subjects, positions.to(like.device))
