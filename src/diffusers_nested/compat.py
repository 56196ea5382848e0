"""Private names of other libraries, and names that differ between their versions; only this module uses them.

It imports nothing heavy at the top, so light modules can use it.
"""

import hashlib
import logging
import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LOG = logging.getLogger(__name__)
_CALL = "_compiled_call_impl"
_COMPILED = "_orig_mod"
_STEPS = "_num_timesteps"


def uncompiled(module: Any) -> Any:
    """The module that ``torch.compile(module)`` wraps; anything else as it is.

    Every torch since 2.0 keeps it under this name. ``module.compile()`` wraps nothing.
    """
    return getattr(module, _COMPILED, module)


def named_modules(model: Any) -> dict[str, Any]:
    """A model's modules by their paths, which ``torch.compile`` lengthens by a level for each module that it wraps."""
    found = {}
    for path, module in model.named_modules():  # a wrapper comes before what it wraps
        found[f".{path}.".replace(f".{_COMPILED}.", ".").strip(".")] = module
    return found


def own_call(module: Any) -> Callable[..., Any] | None:
    """The call set on the module object itself, by ``module.compile()`` or ``set_own_call``.

    Since torch 2.1, ``torch.nn.Module.__call__`` looks for it first, before hooks. Copies do not get it.
    """
    return vars(module).get(_CALL)


def set_own_call(module: Any, call: Callable[..., Any] | None) -> None:
    """Set the call that ``own_call`` reads; None restores the class's."""
    if call is None:
        vars(module).pop(_CALL, None)
    else:
        vars(module)[_CALL] = call


def class_call(module: Any) -> Callable[..., Any]:
    """A module's hooks and forward pass, without ``own_call``."""
    return module._call_impl


def has_child(module: Any, name: str) -> bool:
    """Whether a module has a child of that name, which ``named_children`` tells only by going through all."""
    return name in module._modules


def writes_into(tensor: Any) -> int | None:
    """How often a tensor was written to; None for tensors of inference mode, where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def diffusers_classes(*names: str) -> list[Any]:
    """The classes of diffusers with these names, as far as the installed version has them."""
    import diffusers

    found = {name: getattr(diffusers, name, None) for name in names}
    for name in (name for name, cls in found.items() if cls is None):
        _LOG.debug("diffusers %s has no %s", diffusers.__version__, name)
    return [cls for cls in found.values() if cls is not None]


def execution_device(pipeline: Any) -> Any:
    """The device on which a pipeline computes; under offloading, its models are elsewhere.

    Classic and modular pipelines have this property, private in all versions of diffusers.
    """
    return pipeline._execution_device


def announced_steps(pipeline: Any) -> int | None:
    """How many steps a pipeline announces for its loop; None if it does not.

    In diffusers 0.40 to 0.42 most pipelines do; those of T2I adapters, InstructPix2Pix and Modular Diffusers do not.
    The public property ``num_timesteps`` raises before the first call.
    """
    return getattr(pipeline, _STEPS, None)


def announce_steps(pipeline: Any, steps: int) -> None:
    """Announce for a modular pipeline how many steps its loop takes."""
    setattr(pipeline, _STEPS, steps)


def block_requirements(block: Any) -> Any:
    """The packages that a block of Modular Diffusers needs: a dict, or None.

    An attribute of blocks, a property of sequences of blocks, private in diffusers 0.40 to 0.42.
    """
    return getattr(block, "_requirements", None)


def set_block_requirements(block: Any, requirements: Any) -> None:
    """Set the packages that a block needs."""
    block._requirements = requirements


def request_timeout() -> float:
    """Seconds that diffusers waits for a picture's server, 60 in versions 0.40 to 0.42."""
    from diffusers.utils import constants

    return getattr(constants, "DIFFUSERS_REQUEST_TIMEOUT", 60)


def free_of_accelerate(accelerator: Any, wrapped: Any, module: Any) -> None:
    """Undo ``accelerator.prepare(module)``, which gave ``wrapped``.

    accelerate 1.1 to 1.15 leave the forward pass on the object itself, where it would go along into pickles.
    """
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    vars(module).pop("forward", None)


def has_accelerate_hook(module: Any) -> bool:
    """Whether accelerate acts on a module, and may keep its weights elsewhere; the name is that of 1.1 to 1.15."""
    return hasattr(module, "_hf_hook")


def flags_of(parser: ArgumentParser) -> list[str]:
    """The flags of a command line, ``--help`` among them; argparse has no public list."""
    return list(parser._option_string_actions)


def snapshots_around(folder: Path) -> list[Path]:
    """A folder and those around it that are a commit of a repository in huggingface_hub's cache.

    ``<cache>/models--user--name/snapshots/<commit>``, in all versions.
    """
    chain = (folder, *folder.parents)
    return [one for one in chain if one.parent.name == "snapshots" and "--" in one.parent.parent.name]


def blob_stores(snapshot: Path) -> list[Path]:
    """Where the files of a snapshot really are: links lead to the repository's blobs.

    In huggingface_hub 2 those may be links again, to blobs that the whole cache shares.
    """
    repository = snapshot.parent.parent
    return [repository / "blobs", repository.parent / "blobs"]


def is_as_downloaded(path: Path) -> bool:
    """Whether a file of a snapshot has the hash that the Hub gave for it; yes if the cache does not know it.

    huggingface_hub names blobs by the Hub's ETag: SHA-256 for large files, git's SHA-1 for others. Where the system
    has no links it copies them, and the hash is lost.
    """
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    is_hash = len(name) in (40, 64) and set(name) <= set("0123456789abcdef")
    return not is_hash or _hashed(path, len(name)) == name


def _hashed(path: Path, length: int) -> str:
    hashed = hashlib.sha256()
    if length == 40:
        hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            hashed.update(part)
    return hashed.hexdigest()
