"""``diffusers-nested inspect``: facts about an adapter, without loading its weights."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

HELP = "Show an adapter's word, sizes, image encoder and files, without loading its weights."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("adapter", metavar="REPOSITORY_OR_FOLDER")
    parser.add_argument("--subfolder", help="folder of the adapter within it")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--token", help="access token of the Hub (default: the one of `hf auth login`)")


def run(arguments: argparse.Namespace) -> None:
    """Inspect the adapter, and write the result to the standard output."""
    from ..adapter import inspect_adapter
    from ..files.source import Source

    source = Source(arguments.adapter, arguments.subfolder, arguments.revision, arguments.token)
    sys.stdout.write(describe(arguments.adapter, inspect_adapter(source)))


def describe(name: str, found: Any) -> str:
    """An ``Inspection`` as text, one fact per line."""
    config, adapter = found.adapter.config, found.adapter
    rows = {
        "adapter": name,
        "word": config["subject_token"],
        "subject tokens": f"{config['num_queries']} per image, of width {config['token_dim']}",
        "base family": f"{config['base_family']}, {len(config['layers'])} layers",
        "mechanism": f"{config['mechanism']}, alpha {config['alpha']}",
        "Q-Former": f"{config['qformer_num_layers']} blocks of width {config['qformer_hidden_size']}, "
        f"{config['qformer_num_heads']} heads, feed-forward {config['qformer_intermediate_size']}",
        "parameters": f"{_millions(_count(adapter))}: {_millions(_count(adapter.encoder))} in the encoder, "
        f"{_millions(_count(adapter.projections))} in the layers",
        "image encoder": f"{found.image_encoder}; features of width {config['image_feature_dim']}",
        "format version": config["format_version"],
    }
    lines = [f"{label:<16}{value}" for label, value in rows.items()]
    lines.append(
        "weights" if found.is_complete else "weights that are downloaded; the Hub cannot be reached for others"
    )
    lines += [_describe_file(file) for file in found.files] or ["  none"]
    return "\n".join(lines) + "\n"


def _describe_file(file: Any) -> str:
    size = "size unknown" if file.size is None else f"{file.size / 1e6:.1f} MB"
    counts = file.parameters
    held = "" if counts is None else ", ".join(f"{_millions(count)} {dtype}" for dtype, count in counts.items())
    return f"  {file.name}  {size}  {held}".rstrip()


def _count(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
