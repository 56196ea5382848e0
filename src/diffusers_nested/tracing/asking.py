"""What results have in common: which picture, layers, step, head and subject are asked for, and their means."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backbones import backbone_of
from ..errors import NestedAdapterError, PromptTokenError, Remedy
from ..pipelines.prompt_words import ENCODING
from ..pipelines.state import inner_unet
from ..prompts import pair_prompts, word_positions
from .locate import matching
from .record import CallRecord, TracedSubject


def check_picture(record: CallRecord, picture: int) -> None:
    """Raise unless the call has made such a picture.

    Raises:
        NestedAdapterError: It has not; says how many there are.
    """
    if not record.pictures:
        raise NestedAdapterError("Nothing has been recorded of the call: no row with its prompt reached the UNet.")
    if not isinstance(picture, int) or not 0 <= picture < record.pictures:
        raise NestedAdapterError(
            f"There is no picture {picture!r}: the call has {record.pictures}, counted from 0 (all pictures of the "
            "first prompt, then those of the second; the frames of a video one by one)."
        )


def check_step(record: CallRecord, step: int | None) -> None:
    """Raise unless the step was kept apart; None is always right.

    Raises:
        NestedAdapterError: It was not.
    """
    if step is None:
        return
    kept = {key.step for key in record.kept} - {-1}
    if not kept:
        raise NestedAdapterError(f"Step {step!r} was not kept apart from the others. Use trace(pipe, steps=True).")
    if step not in kept:
        raise NestedAdapterError(f"There is no step {step!r}: the call has {record.steps}, counted from 0.")


def layers_of(record: CallRecord, layer: str | None) -> list[str]:
    """The recorded layers that are asked for.

    Raises:
        NestedAdapterError: There is none of this name.
    """
    paths = list(record.sizes)
    return paths if layer is None else matching(paths, layer)


def positions_of(record: CallRecord, word: str | int | Sequence[int], picture: int) -> tuple[int, ...]:
    """The positions of a word in the prompt of a picture.

    Raises:
        PromptTokenError: It is not there, or the prompt was given as embeddings.
    """
    if not isinstance(word, str):
        return _checked(record, word)
    if record.prompts["prompt"] is None:
        raise PromptTokenError(
            f"The prompt was given as embeddings, so the word {word!r} cannot be looked up. Give its positions in "
            "them: word_map(5), or word_map([5, 6])."
        )
    try:
        with ENCODING:
            return word_positions(*texts_of(record, picture), word, *reading_of(record))
    except PromptTokenError as error:  # whose remedy is for calls with subjects
        raise PromptTokenError(str(error).replace(str(Remedy.ANOTHER_WORD), "Name a word that is there.")) from None


def texts_of(record: CallRecord, picture: int) -> tuple[str, str]:
    """The prompt of a picture, for the first and for the second tokenizer."""
    return pair_prompts(record.prompts["prompt"], record.prompts["prompt_2"])[record.prompt_of(picture)]


def reading_of(record: CallRecord) -> tuple[Any, Any]:
    """The tokenizers of the pipeline, and what expands the words of textual inversion."""
    pipeline = record.pipeline
    return backbone_of(inner_unet(pipeline)).tokenizers_of(pipeline), pipeline.maybe_convert_prompt


def subject_of(record: CallRecord, wanted: str | int | None, picture: int) -> tuple[int, TracedSubject]:
    """The number of a subject in its prompt, and the subject.

    Raises:
        NestedAdapterError: There is none, none is the wanted one, or there are several and none is named.
    """
    subjects = record.subjects_of(picture)
    words = [one.subject.token for one in subjects]
    if not subjects:
        raise NestedAdapterError(
            "The call had no subject, so there are words only: trace.word_map(word). Pass nested_adapter_image to the "
            "pipeline's call."
        )
    if wanted is None and len(subjects) == 1:
        return 0, subjects[0]
    if type(wanted) is int and 0 <= wanted < len(subjects):
        return wanted, subjects[wanted]
    found = [i for i, one in enumerate(words) if isinstance(wanted, str) and _fold(one) == _fold(wanted)]
    if len(found) != 1:
        raise NestedAdapterError(
            f"subject is {wanted!r}, which does not single out one of the picture's subjects; they are at the words "
            f"{', '.join(words)}. Give one of these words, or the subject's number from 0 to {len(words) - 1}."
        )
    return found[0], subjects[found[0]]


def mean_of(
    record: CallRecord, kind: str, place: Any, picture: int, slot: int = -1, step: int | None = None
) -> Tensor | None:
    """The mean of what was kept of a layer, or of the layers of a size; None if nothing was."""
    found = record.kept.read(lambda key: key[:4] == (kind, place, picture, slot) and (step is None or key.step == step))
    kept = [value.float() for _, value in found]
    return torch.stack(kept).mean(0) if kept else None


def of_head(x: Tensor, head: int | None, has_heads: bool) -> Tensor:
    """One head, or the mean of all, of (H, …); as it is if heads were not kept apart.

    Raises:
        NestedAdapterError: The head was not kept apart, or does not exist.
    """
    if not has_heads:
        if head is not None:
            raise NestedAdapterError(f"Head {head!r} was not kept apart from the others. Use trace(pipe, heads=True).")
        return x
    if head is None:
        return x.mean(0)
    if not isinstance(head, int) or not 0 <= head < len(x):
        raise NestedAdapterError(f"There is no head {head!r}: the layer has {len(x)}, counted from 0.")
    return x[head]


def nothing_read(record: CallRecord, subject: TracedSubject, what: str) -> NestedAdapterError:
    """Why there is nothing of a subject: its mechanism has none of it, or it did not act."""
    name, word = subject.adapter.mechanism.name, subject.subject.token
    if any(key.kind == "tokens" for key in record.kept):
        return NestedAdapterError(
            f"The subject {word!r} has no {what} here: it did not act at this place, in these layers or steps. Ask for "
            "others, and look at its scale, mask, start and end."
        )
    return NestedAdapterError(
        f"The subject {word!r} has no {what}: by the mechanism {name!r} no query chose among its tokens, or the "
        "subject acted in no step. There are word_map, queries and numbers; nested, located, decoupled and simple "
        "adapters have them all."
    )


def _checked(record: CallRecord, positions: Any) -> tuple[int, ...]:
    found = next(record.kept.read(lambda key: key.kind == "words"), None)
    length = 0 if found is None else found[1].shape[-1]
    given = list(positions) if isinstance(positions, list | tuple | range) else [positions]
    if not given or any(type(one) is not int or not 0 <= one < length for one in given):
        raise PromptTokenError(
            f"{positions!r} is neither a word of the prompt nor positions in it, which are whole numbers from 0 to "
            f"{length - 1}. Give a word, a position or a list of positions."
        )
    return tuple(sorted(set(given)))


def _fold(word: str) -> str:
    return " ".join(word.lower().split())
