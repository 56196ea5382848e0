"""``diffusers-nested inspect``: facts about an adapter, without loading its weights."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .flags import add_adapter_flags

if TYPE_CHECKING:
    from torch import nn

_KINDS = {"image_projection": "base", "resampler": "plus"}
HELP = "Show an adapter's word, sizes, image encoder and files, without loading its weights."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("adapter", metavar="REPOSITORY_OR_FOLDER", help="or an IP-Adapter's file")
    add_adapter_flags(parser, "subfolder", "weight_name", "revision", "token")


def run(arguments: argparse.Namespace) -> None:
    """Inspect the adapter, and write the result to the standard output."""
    from ..adapter import inspect_adapter
    from ..adapter.locate import source_of

    hub = {"revision": arguments.revision, "token": arguments.token}
    found = inspect_adapter(*source_of(arguments.adapter, arguments.subfolder, arguments.weight_name, **hub))
    sys.stdout.write(describe(arguments.adapter, found))


def describe(name: str, found: Any) -> str:
    """An ``Inspection`` as text, one fact per line."""
    config, adapter = found.adapter.config, found.adapter
    is_file, prepared = adapter.is_ip_adapter, config.get("image_preparation")
    rows = {
        "adapter": name,
        **({"format": f"the file of an IP-Adapter, {_KINDS[config['subject_encoder']]}"} if is_file else {}),
        "word": config["subject_token"],
        "subject tokens": f"{config['num_queries']} per image, of width {config['token_dim']}",
        **({"photos": "aligned faces, as diffusers_nested.prepare_face crops them"} if prepared else {}),
        "base family": f"{config['base_family']}, {len(config['layers'])} layers",
        "mechanism": f"{config['mechanism']}, alpha {config['alpha']}",
        **_encoder(config),
        "parameters": f"{_millions(_count(adapter))}: {_millions(_count(adapter.encoder))} in the encoder, "
        f"{_millions(_count(adapter.projections))} in the layers",
        **_rank(adapter),
        **_towers(config, found.image_encoders),
        **({} if is_file else {"format version": config["format_version"]}),
    }
    lines = [f"{label:<16}{value}" for label, value in rows.items()]
    lines.append(
        "weights" if found.is_complete else "weights that are downloaded; the Hub cannot be reached for others"
    )
    lines += [_describe_file(file) for file in found.files] or ["  none"]
    return "\n".join(lines) + "\n"


def _towers(config: Mapping[str, Any], places: Sequence[str]) -> dict[str, str]:
    """A row for each vision tower."""
    from ..vision import each_tower, numbered

    rows = {}
    for number, (one, place) in enumerate(zip(each_tower(config), places, strict=True), 1):
        kind = f"{one['image_encoder_type']}, " if one.get("image_encoder_type") else ""
        kinds = f"{one['image_features']} features" if one.get("image_features") else "features"
        label = numbered("image encoder", number).replace("_", " ")
        rows[label] = f"{place}; {kind}{kinds} of width {one['image_feature_dim']}"
    return rows


def _rank(adapter: Any) -> dict[str, str]:
    """A row for projections of low rank."""
    from ..mechanisms import low_rank_parts

    parts = low_rank_parts(adapter.projections)
    if not parts:
        return {}
    dense = _millions(sum(part.in_features * part.out_features for part in parts))
    return {"layers": f"rank {adapter.config['projection_rank']}, added to the UNet's own keys and values ({dense})"}


def _encoder(config: Mapping[str, Any]) -> dict[str, str]:
    """A row for the subject encoder."""
    kind = config.get("subject_encoder", "qformer")
    if kind not in ("qformer", "resampler"):
        return {"encoder": kind.replace("_", " ")}
    blocks, width, heads = (config[f"{kind}_{name}"] for name in ("num_layers", "hidden_size", "num_heads"))
    sizes = f"{blocks} blocks of width {width}, {heads} heads"
    inner = config.get(f"{kind}_intermediate_size")
    return {"Q-Former" if inner else kind: f"{sizes}, feed-forward {inner}" if inner else sizes}


def _describe_file(file: Any) -> str:
    size = "size unknown" if file.size is None else f"{file.size / 1e6:.1f} MB"
    counts = file.parameters
    held = "" if counts is None else ", ".join(f"{_millions(count)} {dtype}" for dtype, count in counts.items())
    return f"  {file.name}  {size}  {held}".rstrip()


def _count(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"
