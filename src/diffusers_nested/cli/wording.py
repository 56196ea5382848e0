"""Rewords the library's errors for the command line: flags for keywords, ``WORD=FILE`` for dicts."""

import argparse
import re

from ..compat import flags_of
from ..errors import Remedy

REMEDIES = {
    Remedy.ANOTHER_WORD: "Write it there as a whole word, or name a word that is there: --image WORD=FILE.",
    Remedy.ADAPTER_OF_SUBJECT: "Name a word of an adapter, --image WORD=FILE, or a single adapter, --adapter, whose "
    "subject any other word may stand for.",
    Remedy.ADAPTER_NAME: "Name adapters that differ in their words.",
    Remedy.NO_IMAGE_ENCODER: "",
    Remedy.SUBFOLDER: "Name a folder or repository with one at its top.",
    Remedy.CONFIG: "Name a folder or repository with one at its top, or an IP-Adapter's file.",
    Remedy.FROM_IP_ADAPTER: "Turn the file of an IP-Adapter into such a folder with `diffusers-nested convert`.",
    Remedy.WEIGHTS: "Only weights that were saved as safetensors are read.",
}
_KEYWORD = re.compile(r"\b([a-z_]+)=(?:\.\.\.|True\b|None\b)")


def in_words(error: Exception, parser: argparse.ArgumentParser) -> str:
    """An error's message, reworded for the parser's command."""
    text = str(error)
    for remedy, words in REMEDIES.items():
        text = text.replace(f" {remedy}", f" {words}".rstrip())
    flags = {option.lstrip("-").replace("-", "_"): option for option in flags_of(parser)}
    known = {"token": "HF_TOKEN in the environment", **flags}  # which huggingface_hub reads wherever there is no flag
    return _KEYWORD.sub(lambda keyword: known.get(keyword[1], keyword[0]), text)
