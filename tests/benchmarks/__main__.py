"""`python tests/benchmarks [NAME ...]`: print the table of ratios; all of them without a name.

The laboratory's figures take a boot of a real Xen; `--no-lab` leaves them out.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import blkback
import block
import click
import laboratory
import simulator
from measure import Figure


def show(title: str, figures: list[Figure]) -> None:
    """One table, in Markdown, as docs/benchmarks.md keeps it."""
    print(f"\n| {title} | {figures[0].unit} | ratio |\n|---|---|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.value:.2f} | {figure.ratio:.2f} |", flush=True)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--lab/--no-lab", default=True, help="Measure on a real Xen under QEMU too.")
def main(names: tuple[str, ...], lab: bool) -> None:
    """Measure, and print ratios. NAMES are the beginnings of the tables' titles."""
    benchmarks = {**simulator.BENCHMARKS, **block.BENCHMARKS}
    benchmarks |= {**laboratory.BENCHMARKS, **blkback.BENCHMARKS} if lab else {}
    for title, benchmark in benchmarks.items():
        if not names or any(title.lower().startswith(name.lower()) for name in names):
            show(title, benchmark())


main()
