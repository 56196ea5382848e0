"""Looking inside a pipeline's call: where words act, what a subject's word reads, and where that is in the photo.

Locating the layers (``locate``), hooking them (``recorder``), reading what they do (``layer_reading``) and keeping it
(``kept``) are apart; a ``Trace`` gives the results.
"""

from .follow import Followed
from .queries import Queries
from .sheets import follow_sheet, value_sheet, word_sheet
from .trace import Trace, trace
from .values import ValueMap
from .word_map import WordMap

__all__ = [
    "Followed",
    "Queries",
    "Trace",
    "ValueMap",
    "WordMap",
    "follow_sheet",
    "trace",
    "value_sheet",
    "word_sheet",
]
