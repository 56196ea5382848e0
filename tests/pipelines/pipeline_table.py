"""The documentation's table of pipelines and contracts: what it must hold, and how it is written."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cases import CASES, Case

PAGE = Path(__file__).parents[2] / "docs" / "pipelines.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
MODULES = ("test_contract", "test_row_orders")
KEPT, BROKEN = "✓", "✗"

# (case, title of a contract) -> KEPT, BROKEN, or why the pipeline cannot be asked to keep it
Cells = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Contract:
    """A check: its title, what it means, and the argument of the call that it is about."""

    title: str
    meaning: str
    needs: str = ""

    def why_not(self, case: Case) -> str | None:
        """Why the case cannot be asked to keep this, None if it can."""
        if self.title in case.without:
            return case.without[self.title]
        return f"the call has no `{self.needs}`" if self.needs and not case.takes(self.needs) else None


def contract_of(test) -> Contract | None:
    """The contract that a test function checks."""
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "contract":
            return Contract(mark.args[0], inspect.getdoc(test), **mark.kwargs)
    return None


def contracts() -> list[Contract]:
    """All of them, in the order of the files."""
    tests = [test for module in MODULES for test in vars(importlib.import_module(module)).values()]
    return [contract for contract in map(contract_of, tests) if contract is not None]


def all_kept() -> Cells:
    """The cells if every test passes."""
    return {(str(case), each.title): each.why_not(case) or KEPT for case in CASES for each in contracts()}


def render(cells: Cells) -> str:
    """The table, a row per pipeline: what it keeps, and what cannot be asked of it."""
    titles = [contract.title for contract in contracts()]
    lines = [f"| Pipeline | Of {len(titles)} checks; what cannot be asked |", "|---|---|"]
    for case in map(str, CASES):
        name, _, label = case.partition(" ")
        verdict = _verdict({title: cells[case, title] for title in titles})
        lines.append(f"| {' '.join([f'`{name}`', label]).strip()} | {verdict} |")
    lines += ["", "The checks:", "", *(f"- **{contract.title}**: {contract.meaning}" for contract in contracts())]
    return "\n".join(lines) + "\n"


def _verdict(found: Mapping[str, str]) -> str:
    """All kept, or which are broken; and why some cannot be asked."""
    broken = [title for title, cell in found.items() if cell == BROKEN]
    reasons = dict.fromkeys(cell for cell in found.values() if cell not in (KEPT, BROKEN))
    parts = [f"{KEPT} {sum(cell == KEPT for cell in found.values())}"]
    parts += [f"{BROKEN} {', '.join(broken)}"] if broken else []
    return ", ".join([*parts, *reasons])


def read() -> str:
    """The table as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write(cells: Cells) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + render(cells) + END + rest.partition(END)[2], encoding="utf-8")
