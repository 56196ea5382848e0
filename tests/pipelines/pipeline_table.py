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
    """A column: its title, what it means, and the argument of the call that it is about."""

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
    """The table with its notes."""
    columns = contracts()
    found = [cells[str(case), column.title] for case in CASES for column in columns]
    reasons = list(dict.fromkeys(cell for cell in found if cell not in (KEPT, BROKEN)))
    lines = [
        "| Pipeline | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + ":-:|" * len(columns),
    ]
    for case in map(str, CASES):
        row = [cells[case, column.title] for column in columns]
        marks = [cell if cell in (KEPT, BROKEN) else f"– ({reasons.index(cell) + 1})" for cell in row]
        name, _, label = case.partition(" ")
        lines.append(f"| {' '.join([f'`{name}`', label]).strip()} | " + " | ".join(marks) + " |")
    notes = [f"({i}) {reason}" for i, reason in enumerate(reasons, start=1)]
    if notes:
        lines += ["", "Cannot be asked of these pipelines: " + "; ".join(notes) + "."]
    lines += ["", "The columns:", "", *(f"- **{column.title}**: {column.meaning}" for column in columns)]
    return "\n".join(lines) + "\n"


def read() -> str:
    """The table as the page has it."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def write(cells: Cells) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + render(cells) + END + rest.partition(END)[2], encoding="utf-8")
