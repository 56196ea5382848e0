"""Rewords the library's errors for the page: its fields for the keywords of Python."""

import re
from collections.abc import Sequence

from ..errors import Remedy
from ..images.checks import TOO_LARGE

_REMEDIES = {
    Remedy.ANOTHER_WORD: "Write it there as a whole word, or change the word of the photos.",
    Remedy.ADAPTER_OF_SUBJECT: "Choose its adapter beside the word.",
}
_NAME = re.compile(r"nested_adapter_image\[(\d+)\]")
_PYTHON = {
    " For several photos of one subject, pass a list.": " Several photos of one subject go into one field.",
    "give both a mask or token_indices": "paint a mask for both",
    ", or open it yourself and give the opened image": "",
    TOO_LARGE: "Make it smaller.",
}


def in_words(error: Exception, names: Sequence[str]) -> str:
    """An error's message for the page.

    Args:
        error: Of a call with a list of subjects.
        names: What the page calls each of them.
    """
    text = str(error)
    for remedy, words in _REMEDIES.items():
        text = text.replace(str(remedy), words)
    for python, words in _PYTHON.items():
        text = text.replace(python, words)
    return _NAME.sub(lambda found: names[int(found[1])] if int(found[1]) < len(names) else found[0], text)
