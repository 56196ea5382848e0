"""Settings of a preparation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import NestedAdapterError
from ..files.rules import Rule, check_settings, number, one_of, whole

WORDS = {"faces": "person", "pets": "pet", "objects": "object"}  # kind of subject -> its word
_RULES: Mapping[str, Rule] = {
    "kind": one_of(*WORDS),
    "faces": one_of("largest", "all"),
    "background": one_of("white", "keep"),
    "min_size": whole(1),
    "min_sharpness": number(0),
}


@dataclass(frozen=True)
class PrepareSettings:
    """What becomes of a folder of photos.

    Attributes:
        kind: "faces", "pets" or "objects".
        source: Folder of the photos, with all folders in it.
        output: Folder of the training set.
        subject_token: Word of the captions that the subject replaces; by default person, pet or object.
        captions: A .csv or .jsonl with the columns file_name and text; without one, photo.txt beside photo.jpg.
        nouns: File with a noun on each line that the subject's word replaces; by default those of the package.
        captioner: Folder or cached repository of a model that captions photos without a caption.
        segmenter: Folder or cached repository of a model that finds pets or objects.
        faces: Which faces of a photo become examples: the "largest", or "all".
        background: Behind pets and objects in input images: "white", or "keep" for the photo's own.
        min_size: Least pixels of the square around a face, or of the longer side of a pet or object.
        min_sharpness: Least variance of the crop's Laplacian at 256 x 256 pixels.
        device: Where the models compute, such as "cuda"; by default CUDA if there is one.

    Raises:
        NestedAdapterError: A value is out of range, or a model is missing or of no use for this kind of subject.
    """

    kind: str
    source: Path
    output: Path
    subject_token: str | None = None
    captions: Path | None = None
    nouns: Path | None = None
    captioner: str | None = None
    segmenter: str | None = None
    faces: str = "largest"
    background: str = "white"
    min_size: int = 128
    min_sharpness: float = 10.0
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("source", "output", "captions", "nouns"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
        check_settings({name: getattr(self, name) for name in _RULES}, _RULES)
        if (self.kind == "faces") != (self.segmenter is None):
            raise NestedAdapterError(
                "segmenter is for pets and objects; faces are found by dlib. Leave it out."
                if self.segmenter
                else f"{self.kind} need a segmenter. Name the folder or the cached repository of a model of "
                "transformers that segments images."
            )
        if self.subject_token is not None and not self.subject_token.strip():
            raise NestedAdapterError("subject_token is blank, expected a word such as 'person'.")

    @property
    def word(self) -> str:
        """The subject's word."""
        return self.subject_token or WORDS[self.kind]
