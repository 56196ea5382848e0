"""Why a photo does not become an example."""

from enum import Enum


class Reason(Enum):
    """The reasons, as they stand in ``rejects.jsonl``."""

    EMPTY_FILE = "empty file"
    UNREADABLE = "unreadable"
    BAD_NAME = "unusable name"
    NO_CAPTION = "no caption"
    NO_NOUN = "no noun for the subject in the caption"
    SEVERAL_NOUNS = "several nouns for the subject in the caption"
    LATE_NOUN = "noun for the subject too late in the caption"
    NO_SUBJECT = "no subject found"
    SEVERAL_SUBJECTS = "several subjects, none clearly the largest"
    TOO_SMALL = "subject too small"
    BLURRED = "subject blurred"


class Reject(Exception):
    """A photo, or one of the faces in it, is left out.

    Args:
        reason: Why.
        detail: The values behind it.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason.value, detail)
        self.reason = reason
        self.detail = detail

    def row(self, name: str) -> dict[str, str]:
        """The row of ``rejects.jsonl`` for a photo."""
        return {"file_name": name, "reason": self.reason.value, "detail": self.detail}
