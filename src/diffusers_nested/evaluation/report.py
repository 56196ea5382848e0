"""The report of a finished comparison: summary, plot and sheets."""

import json
import logging
from pathlib import Path

from ..errors import NestedAdapterError
from ..files.write_whole import write_whole
from .plots import trade_off
from .prepare import Comparison
from .rows import RESULTS, read_rows
from .sheets import write_sheets
from .summary import summarise

SUMMARY = "summary.json"
logger = logging.getLogger(__name__)


def write_report(folder: Path, comparison: Comparison) -> None:
    """Write ``summary.json``, ``trade-off.png`` and ``.svg``, and one sheet of pictures per subject."""
    settings = comparison.settings
    conditions = summarise(read_rows(folder / RESULTS))
    summary = {"x": settings.x, "y": settings.y, "conditions": conditions}
    write_whole(folder / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    try:
        trade_off(conditions, settings.x, settings.y, folder / "trade-off")
    except NestedAdapterError as error:
        logger.warning("no plot: %s", error)
    if settings.save_pictures:
        write_sheets(folder, comparison)
    logger.info("wrote %s", folder.resolve())
