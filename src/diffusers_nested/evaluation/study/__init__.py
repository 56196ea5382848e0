"""Blind comparisons by people: a page with pairs of pictures, and win rates from its answers."""

from .answers import win_rates
from .page import write_page
from .pairs import Pair, Side, choose_pairs

__all__ = ["Pair", "Side", "choose_pairs", "win_rates", "write_page"]
