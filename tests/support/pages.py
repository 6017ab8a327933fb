"""The project's pages, and what they show between fences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.places import DOCS, EXAMPLES, HOME

README = HOME / "README.md"
PAGES = [
    *sorted(HOME.glob("*.md")),
    HOME / "changes" / "README.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted(EXAMPLES.rglob("*.md")),
]

FENCED = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"(.*)')


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    language: str
    file: str
    """What it is to be put into, where its title says so."""
    more: bool
    """Whether that goes below what is there."""
    text: str


def named(page: Path) -> str:
    """For the ids of tests."""
    return str(page.relative_to(DOCS if page.is_relative_to(DOCS) else HOME))


def all_blocks(page: Path) -> Iterator[Block]:
    for language, rest, text in FENCED.findall(page.read_text()):
        title = TITLE.search(rest)
        yield Block(language, title[1] if title else "", bool(title and title[2].strip()), text)


def blocks(page: Path, language: str) -> list[str]:
    return [block.text for block in all_blocks(page) if block.language == language]
