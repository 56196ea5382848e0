"""What keeping subjects in 8 bits changes: measured with the miniature's adapters, whose weights are trained.

    python benchmarks/storage.py --output docs/results/storage.json

Queries are those of real calls, in all layers and steps; an error of v* is in units of its own norm. Pictures are
compared by the miniature's recogniser.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusers_nested import miniature
from diffusers_nested.attention import SubjectValues, nested_values
from diffusers_nested.backbones import cross_attention_layers, layer_heads
from diffusers_nested.injection import Storage, split_heads
from diffusers_nested.injection.storage import EIGHT_BITS, Stored
from diffusers_nested.miniature.evaluation import references
from diffusers_nested.miniature.prompts import PROMPTS
from diffusers_nested.miniature.sampling import sample

_WORDS = {"people": "person", "pets": "pet"}
_CPU = torch.device("cpu")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = [row for kind in _WORDS for row in _measure(kind, args.subjects)]
    args.output.write_text(
        json.dumps({"subjects": args.subjects, "prompts": len(PROMPTS), "rows": rows}, indent=1) + "\n"
    )


def _measure(kind: str, subjects: int) -> list[dict[str, Any]]:
    """A row for every way to store an adapter's subjects."""
    word, pipeline, recogniser = _WORDS[kind], miniature.load_pipeline(), miniature.load_recogniser()
    pipeline.load_nested_adapter(miniature.path(kind))
    photos = [reference.images[word][0] for reference in references(kind, subjects, 1)]
    identities, _ = recogniser.read(np.stack([np.asarray(photo) for photo in photos]))
    prompts = [prompt.format(word) for prompt in PROMPTS]
    rows: list[dict[str, Any]] = []
    pictures, errors = {}, {dtype: torch.empty(0) for dtype in EIGHT_BITS}
    for dtype in (None, *EIGHT_BITS):
        pipeline.set_nested_adapter_storage(dtype=dtype)
        drawn = []
        for photo in photos:
            with _queries(pipeline.unet) as seen:
                drawn.append(sample(pipeline, prompts, range(len(prompts)), nested_adapter_image=photo))
            for stored in EIGHT_BITS if dtype is None else ():
                errors[stored] = torch.cat([errors[stored], _errors(pipeline, photo, stored, seen)])
        pictures[dtype] = np.stack(drawn)  # (subjects, prompts, 32, 32, 3)
    for dtype, drawn in pictures.items():
        found = torch.stack([recogniser.read(one)[0] for one in drawn])  # (subjects, prompts, D)
        row = {"kind": kind, "storage": "as it is" if dtype is None else str(dtype).removeprefix("torch.")}
        row["identity"] = round(float((found * identities[:, None]).sum(-1).mean()), 4)
        if dtype is not None:
            row["mean_error"], row["largest_error"] = (
                round(float(x), 5) for x in (errors[dtype].mean(), errors[dtype].max())
            )
            changed = np.abs(drawn.astype(int) - pictures[None].astype(int))
            row["mean_change"] = round(float(changed.mean()), 3)
        rows.append(row)
    return rows


@torch.no_grad()
def _errors(pipeline: Any, photo: Any, dtype: torch.dtype, seen: dict[str, list[Tensor]]) -> Tensor:
    """‖v*' − v*‖ / ‖v*‖ of all queries that were seen."""
    adapter, heads, found = next(iter(pipeline.nested_adapters.values())), layer_heads(pipeline.unet), []
    for path, projected in adapter.project_by_layer(pipeline.encode_nested_adapter_image(photo)):
        exact = split_heads(projected, heads[path])
        stored = [one.load(_CPU) for one in Storage(dtype=dtype).keep(exact) if isinstance(one, Stored)]
        queries = torch.cat(seen[path]).unflatten(-1, (heads[path], -1)).transpose(1, 2)  # (rows, H, S, d)
        one, other = (nested_values(queries, SubjectValues(*pair, torch.empty(0))) for pair in (exact, stored))
        size = torch.linalg.vector_norm(one, dim=(1, 3))  # of all heads together, (rows, S)
        found.append((torch.linalg.vector_norm(other - one, dim=(1, 3)) / size).flatten())
    return torch.cat(found)


@contextmanager
def _queries(unet: Any) -> Iterator[dict[str, list[Tensor]]]:
    """The queries of the prompts' rows, (rows, S, H · d), that each layer computes."""
    seen: dict[str, list[Tensor]] = {path: [] for path in cross_attention_layers(unet)}

    def record(path: str) -> Any:
        # with guidance, the second half of the rows are the prompts'
        return lambda module, args, out: seen[path].append(out.chunk(2)[1])

    layers: Any = cross_attention_layers(unet)
    handles = [layer.to_q.register_forward_hook(record(path)) for path, layer in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    main()
