"""Pages that are followed: the tutorial, the how-to pages, and the one on pytest, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.pages import PAGES, all_blocks, named
from support.places import DOCS
from support.walk import walk

pytestmark = pytest.mark.once

FOLLOWED = [page for page in PAGES if any(block.file for block in all_blocks(page))]


@pytest.mark.parametrize("page", FOLLOWED, ids=named)
def test_a_page_is_followed_word_for_word(page: Path, tmp_path: Path) -> None:
    walk(page, tmp_path)


def test_the_tutorial_and_the_how_to_pages_are_followed() -> None:
    """But for the one that takes a real Xen."""
    expected = {DOCS / "tutorial.md", *(DOCS / "how-to").glob("*.md")}
    assert expected - set(FOLLOWED) == {DOCS / "how-to" / "run-on-dom0.md"}


def test_a_step_that_goes_otherwise_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one 7\none 8\n$ echo two\nthree\n```\n")
    with pytest.raises(AssertionError, match="should say, behind what is above it: three"):
        walk(page, tmp_path)
    page.write_text('```python title="a.py"\na = 1\n```\n```diff title="a.py"\n-b\n+c\n```\n')
    with pytest.raises(AssertionError, match="has not these lines once"):
        walk(page, tmp_path)


def test_the_reference_has_a_page_for_all_that_is_public() -> None:
    from test_exports import PUBLIC

    pages = (DOCS / "reference").glob("*.md")
    shown = {name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)}
    assert shown == set(PUBLIC)
