"""Figures that are kept, a line of JSON a run: so that a change that costs a little is seen later.

Only ratios keep: to stock asyncio, measured in the same run. A line has the commit, the Python, and
the ratios of each table by contender.
"""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

from measure import Figure

Ratios = dict[str, dict[str, float]]
"""By table, then by contender."""


def last(file: Path) -> Ratios:
    """The ratios of a history's last run."""
    try:
        ratios: Ratios = json.loads(file.read_text().splitlines()[-1])["ratios"]
    except (OSError, ValueError, LookupError) as error:
        raise SystemExit(f"{file} is no history of benchmarks: {error}") from None
    return ratios


def add(file: Path, tables: dict[str, list[Figure]], here: Path) -> None:
    """One more line: this run."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=here, capture_output=True, text=True
    )
    line = {
        "commit": described.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "ratios": {
            title: {figure.name: round(figure.ratio, 3) for figure in figures}
            for title, figures in tables.items()
        },
    }
    with file.open("a") as history:
        history.write(json.dumps(line, separators=(",", ":")) + "\n")
