"""Completing a text: sections of ours are kept up to date, everything else stays the author's."""

import re
from typing import NamedTuple


class Section(NamedTuple):
    """A part of a page under a heading.

    Attributes:
        heading: The heading, without its marks.
        text: What stands below it.
        generated: Whether it is ours to write anew each time, between two marks; otherwise it is the author's, and
            only put in where it is missing.
    """

    heading: str
    text: str
    generated: bool


def complete(text: str, sections: list[Section]) -> str:
    """The text with all sections.

    A generated section replaces what stands between its marks; without text it goes. Where the author wrote a section
    of the same heading without marks, theirs stays. The others are put at the end, in their order.
    """
    for section in sections:
        text = _with_section(text, section)
    return text.strip() + "\n"


def _with_section(text: str, section: Section) -> str:
    begin, end = (f"<!-- {mark}diffusers-nested: {section.heading.lower()} -->" for mark in ("", "/"))
    body = f"## {section.heading}\n\n{section.text.strip()}"
    block = f"{begin}\n{body}\n{end}" if section.generated else body
    marked = re.compile(rf"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if marked.search(text):
        return marked.sub(lambda _: block if section.text else "", text, count=1)
    if not section.text or re.search(rf"^#+\s+{re.escape(section.heading)}\s*$", text, re.IGNORECASE | re.MULTILINE):
        return text
    return f"{text.rstrip()}\n\n{block}\n"
