"""The server: where it listens, what it keeps, and what is gone when it ends."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..environment.requirements import missing_extra
from ..errors import NestedAdapterError

LOCAL = "127.0.0.1"
_LARGEST_UPLOAD = "50mb"


def require_gradio() -> None:
    """Raise unless gradio is installed; nothing is sent to its makers from then on.

    Raises:
        DependencyError: It is not.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        import gradio  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise missing_extra("The app needs", "app") from error


@contextmanager
def uploads() -> Iterator[Path]:
    """A folder for visitors' photos and pictures, which is removed at the end; enter it before gradio is imported."""
    folder = tempfile.mkdtemp(prefix="diffusers-nested-app-")  # for this user only
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield Path(folder)
    finally:
        if before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def check_port(name: str, port: int | None) -> None:
    """Raise if nothing can listen at a port, before models are loaded for it.

    Raises:
        NestedAdapterError: It is taken or not allowed, or there is no such address here.
    """
    if port is None:
        return
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        socket.create_server((name, port), family=family).close()
    except OSError as error:
        raise _cannot_listen(name, port, error.strerror or str(error)) from error


def _cannot_listen(name: str, port: int | None, why: str) -> NestedAdapterError:
    where = f"port {port} of {name}" if port else name
    return NestedAdapterError(
        f"The app cannot listen at {where}: {why}. Choose another --server-port or --server-name."
    )


@contextmanager
def serving(page: Any, name: str = LOCAL, port: int | None = None, share: bool = False) -> Iterator[str]:
    """Serve a page until the end of the block.

    Args:
        page: Of ``page.build``.
        name: Address to listen at; by default, only this machine can reach it.
        port: By default, the first that is free from 7860 on.
        share: Make a public link, by gradio's servers.

    Yields:
        The page's address.

    Raises:
        NestedAdapterError: Nothing can listen there.
    """
    import gradio as gr  # pyright: ignore[reportMissingImports]

    from .page import CSS

    fonts = ["system-ui", "sans-serif"]  # no web fonts: the page needs nothing from elsewhere
    theme = gr.themes.Default(primary_hue="indigo", font=fonts, font_mono=["ui-monospace", "monospace"])
    try:
        _, local, public = page.launch(
            server_name=name,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            theme=theme,
            css=CSS,
            max_file_size=_LARGEST_UPLOAD,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
        )
    except OSError as error:
        raise _cannot_listen(name, port, str(error).split(". ")[0]) from error
    try:
        yield public or local
    finally:
        page.close(verbose=False)
