"""Functions and classes of the user, named in settings."""

import importlib
import logging
from typing import Any

from ..errors import NestedAdapterError

logger = logging.getLogger(__name__)


def import_named(name: str, where: str) -> Any:
    """Import ``"module:name"``, which runs the module's code.

    Args:
        name: Module and name, with a colon.
        where: The setting that names it, for messages.

    Raises:
        NestedAdapterError: Not of this form, or there is no such module, or no such function or class in it.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise NestedAdapterError(f"{where} must be of the form MODULE:NAME, got {name!r}.")
    logger.info("importing the module %s, which %s names: its code runs", module, where)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except (ImportError, TypeError) as error:  # TypeError: a relative name
        raise NestedAdapterError(
            f"{where} names the module {module!r}, which cannot be imported ({error}). Run the command in its folder, "
            "or install it."
        ) from error
    if not callable(found):
        raise NestedAdapterError(f"{where}: the module {module!r} has no function or class {attribute!r}.")
    return found
