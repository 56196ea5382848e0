"""Flags that say which adapter is meant, named as the keywords of ``load_nested_adapter``."""

import argparse

_HELP = {
    "subfolder": "folder of the adapter within the repository or folder",
    "weight_name": "name of the weights file; needed for an IP-Adapter's",
    "image_encoder_folder": "folder of the image encoder; for an IP-Adapter it is within --subfolder, or counts from "
    "the top if it has a slash (default: image_encoder)",
    "subject_token": "the adapter's word (default: its own; for an IP-Adapter, person)",
    "mechanism": "how the subject enters a layer (default: the adapter's own)",
    "revision": "branch, tag or commit of the repository",
    "token": "access token of the Hub (default: the one of `hf auth login`)",
}
_DEFAULTS = {"image_encoder_folder": "image_encoder"}


def add_adapter_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add these flags; dashes may be written for the underscores."""
    for name in names:
        spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        parser.add_argument(*spellings, default=_DEFAULTS.get(name), help=_HELP[name])
