"""Where things are in the tree."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
HOME = TESTS.parent
DOCS = HOME / "docs"
EXAMPLES = HOME / "examples"
RULES = TESTS / "rules"
PEERS = TESTS / "peers"
"""Programs that run in the lab: the other end of what is tested."""
KEPT = HOME / ".pytest_cache" / "d"
"""What is fetched or built once, and kept between runs."""
