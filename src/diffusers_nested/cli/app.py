"""``diffusers-nested app``: photos, words and prompts in a browser."""

import argparse
import inspect
import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from ..app.serve import LOCAL, check_port, require_gradio, serving, uploads
from ..environment.devices import usable_device
from .flags import add_model_flags, add_setting_flags
from .models import WHERE, adapter_words, adapters_of, call_settings, check_offload, load_adapted
from .pictures import ZOOM, enlarged
from .values import whole

if TYPE_CHECKING:
    from ..app.form import Defaults

HELP = "Open a page in the browser to try adapters: in the bundled miniature world unless --pipeline is given."
logger = logging.getLogger(__name__)
_LOOPBACK = (LOCAL, "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_flags(parser)
    add_setting_flags(parser)
    parser.add_argument(
        "--server-name", default=LOCAL, help=f"address to listen at; 0.0.0.0 is every one (default: {LOCAL})"
    )
    parser.add_argument("--server-port", type=whole(1, 65535), help="(default: the first free one from 7860 on)")
    parser.add_argument("--share", action="store_true", help="make a public link, through gradio's servers")


def run(arguments: argparse.Namespace) -> None:
    """Load everything, print the page's address, and serve it until interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the visitors' photos are removed then, too
    with uploads():
        require_gradio()
        check_port(arguments.server_name, arguments.server_port)
        page = page_of(arguments)
        if arguments.server_name not in _LOOPBACK or arguments.share:
            logger.warning("Everybody who can reach this address can draw with your machine; there is no password.")
        with serving(page, arguments.server_name, arguments.server_port, arguments.share) as address:
            sys.stdout.write(f"{address}\n")
            sys.stdout.flush()
            threading.Event().wait()


def page_of(arguments: argparse.Namespace) -> Any:
    """Load the models that are asked for, and build the page that draws with them.

    Raises:
        NestedAdapterError: Something cannot be loaded.
    """
    from ..app.page import build
    from ..app.samples import remark_on_words
    from ..app.studio import Studio

    device = usable_device(arguments.device)
    if arguments.offload:
        check_offload(device)
    adapters = adapters_of(arguments)
    adapter_words(adapters, **{name: getattr(arguments, name) for name in WHERE})  # before anything is loaded
    pipeline, settings = load_adapted(arguments, adapters, device), call_settings(arguments)
    is_miniature = arguments.pipeline is None
    studio = Studio(pipeline, settings, enlarged) if is_miniature else Studio(pipeline, settings)
    defaults = _defaults(pipeline, settings, is_miniature)
    return build(studio, defaults, remark_on_words) if is_miniature else build(studio, defaults)


def _defaults(pipeline: Any, settings: dict[str, Any], is_miniature: bool) -> "Defaults":
    from ..app.form import Defaults
    from ..app.samples import miniature_samples

    own = inspect.signature(type(pipeline).__call__).parameters
    usual = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    size = (settings.get("width") or usual, settings.get("height") or usual)
    return Defaults(
        words={name: adapter.config["subject_token"] for name, adapter in pipeline.nested_adapters.items()},
        steps=settings.get("num_inference_steps", own["num_inference_steps"].default),
        guidance=settings.get("guidance_scale", own["guidance_scale"].default),
        size=tuple(side * ZOOM for side in size) if is_miniature else size,
        samples=miniature_samples() if is_miniature else [],
    )
