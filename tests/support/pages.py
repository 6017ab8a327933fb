"""The project's pages, and what they show between fences."""

from __future__ import annotations

import re
from pathlib import Path

from support.places import DOCS, HOME

README = HOME / "README.md"
PAGES = [README, HOME / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for said, text in FENCED.findall(page.read_text()) if said == language]
