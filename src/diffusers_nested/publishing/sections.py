"""Sections of a card: generated ones are kept up to date, everything else remains the author's."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import PublishError

_GENERATED = re.compile(r"<!-- diffusers-nested: ([^\n]*?) -->.*?<!-- /diffusers-nested: \1 -->\n?", re.DOTALL)
_HEADING = re.compile(r"##\s+(\S.*?)\s*")
_FENCE = re.compile(r" {0,3}(```|~~~)")


class Section(NamedTuple):
    """A section of a page.

    Attributes:
        heading: The heading, without the leading ``##``.
        text: The text below it.
        generated: Whether the section is rewritten each time, between two marks. Otherwise it is the author's, and
            only added if it is missing.
    """

    heading: str
    text: str
    generated: bool


def complete(text: str, sections: Sequence[Section]) -> str:
    """Complete a text with all sections.

    A generated section replaces the text between its marks, and is removed if it has no text. A section of the same
    heading that the author wrote without marks stays. Missing sections are appended in order.

    Raises:
        PublishError: One of the two marks of a section is missing.
    """
    for section in sections:
        text = _with_section(text, section)
    return text.strip() + "\n"


def keep_written(text: str, earlier: str, sections: Sequence[Section]) -> str:
    """Add the author's sections of an earlier version that the text lacks.

    A section in both stays as it is in the text, unless it is still to be filled in there.

    Args:
        text: The author's current text.
        earlier: The published text, perhaps edited on the Hub.
        sections: The sections that `complete` adds.
    """
    to_write = {section.heading.lower(): section.text for section in sections if not section.generated}
    for heading, body in _written(_GENERATED.sub("", earlier)):
        placeholder = to_write.get(heading.lower())
        if placeholder is not None and placeholder in body:
            continue
        if not _has(text, heading):
            text = f"{text.rstrip()}\n\n## {heading}\n\n{body}\n"
        elif placeholder is not None:
            text = text.replace(placeholder, body)
    return text


def block_of(text: str, heading: str) -> str:
    """The text between the marks of a generated section; empty if there are none."""
    found = re.search("{}(.*?){}".format(*map(re.escape, _marks(heading))), text, re.DOTALL)
    return "" if found is None else found[1]


def _with_section(text: str, section: Section) -> str:
    begin, end = _marks(section.heading)
    body = f"## {section.heading}\n\n{section.text.strip()}"
    block = f"{begin}\n{body}\n{end}" if section.generated else body
    if text.count(begin) != text.count(end):
        raise PublishError(
            f"README.md has only one of the two marks {begin!r} and {end!r}, so the section to rewrite is unknown. "
            "Restore the other one, or remove both and the text between them."
        )
    before, *blocks = re.split(rf"{re.escape(begin)}.*?{re.escape(end)}", text, flags=re.DOTALL)
    if blocks:
        rest = "".join(blocks)  # drop copies of a block, as they would become outdated
        return before + block + rest if section.text else f"{before.rstrip()}\n\n{rest.lstrip()}"
    if not section.text or _has(text, section.heading):
        return text
    return f"{text.rstrip()}\n\n{block}\n"


def _marks(heading: str) -> tuple[str, str]:
    return f"<!-- diffusers-nested: {heading.lower()} -->", f"<!-- /diffusers-nested: {heading.lower()} -->"


def _has(text: str, heading: str) -> bool:
    return re.search(rf"^#+\s+{re.escape(heading)}\s*$", text, re.IGNORECASE | re.MULTILINE) is not None


def _written(text: str) -> Iterator[tuple[str, str]]:
    """Heading and body of every second-level section; ``##`` inside code blocks is ignored."""
    heading, body, fence = "", list[str](), ""
    for line in text.split("\n"):
        opening = _FENCE.match(line)
        if opening is not None and fence in ("", opening[1]):
            fence = "" if fence else opening[1]
        found = None if fence else _HEADING.fullmatch(line)
        if found is None:
            body.append(line)
            continue
        if heading:
            yield heading, "\n".join(body).strip()
        heading, body = found[1], []
    if heading:
        yield heading, "\n".join(body).strip()
