"""`python tests/benchmarks [NAME ...]`: print the tables of ratios; all of them without a name.

    --aims               what is aimed at and what is reached, in both builds, in one table
    --against FOLDER     with another checkout measured in the same rounds: what a change costs
    --against FILE       or with the last run that a history tells of
    --record FILE        add this run to a history

The laboratory's figures take a boot of a real Xen; `--no-lab` leaves them out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))  # for `support`

import aims
import blkback
import block
import click
import crews
import history
import kernels
import laboratory
import recording
import scale
import simulator
import start
import vchan_send
from checkout import Checkout
from measure import Figure, Table

HERE = Path(__file__).resolve().parents[2]

BOTH = {*simulator.TABLES, *scale.TABLES, *block.TABLES, *vchan_send.TABLES}
"""What is measured with the accelerator, and in Python alone."""

FASTEST, IN_PYTHON = "", ", in Python alone"

Builds = dict[str, Checkout]
"""A checkout as it is, and in Python alone if that is something else."""

Entry = Table | Callable[[], list[Figure]]


def show(title: str, figures: list[Figure]) -> None:
    """One table, in Markdown, as docs/benchmarks.md keeps it."""
    columns = {"control": "(control)", "against": "of the baseline"}
    shown = [c for c in columns if any(getattr(figure, c) is not None for figure in figures)]
    names = [title, figures[0].unit, "ratio", *(columns[column] for column in shown)]
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for figure in figures:
        cells = [figure.name, f"{figure.value:.2f}", f"{figure.ratio:.2f}"]
        for column in shown:
            ratio = getattr(figure, column)
            cells.append("" if ratio is None else f"{ratio:.2f}")
        print(f"| {' | '.join(cells)} |", flush=True)


def _builds(folder: Path) -> Builds:
    fastest = Checkout(folder)
    return ({IN_PYTHON: Checkout(folder, pure=True)} if fastest.accelerated else {}) | {
        FASTEST: fastest
    }


def compared(title: str, figures: list[Figure], recorded: history.Ratios) -> list[Figure]:
    """The same figures against a run that was recorded."""
    old = recorded.get(title, {})
    return [
        replace(each, against=each.ratio / old[each.name]) if each.name in old else each
        for each in figures
    ]


@click.command()
@click.argument("names", nargs=-1)
@click.option("--lab/--no-lab", default=True, help="Measure on a real Xen under QEMU too.")
@click.option("--aims", "only_aims", is_flag=True, help="The aims in one table, and no other.")
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    help="Another checkout's folder, or a history of figures.",
)
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), help="Add a line to this history."
)
def main(
    names: tuple[str, ...], lab: bool, only_aims: bool, against: Path | None, record: Path | None
) -> None:
    """Measure, and print ratios. NAMES are the beginnings of the tables' titles."""
    before: Builds = {}
    recorded: history.Ratios = {}
    if against is not None:
        if against.is_dir():
            before = _builds(against.resolve())
        else:
            recorded = history.last(against)
    here = _builds(HERE)
    if len(here) == 1:
        print("without the accelerator: activations doctor says why", file=sys.stderr)
    if only_aims:
        aims.show(here)
        return
    entries: dict[str, Entry] = {
        **simulator.TABLES,
        **scale.TABLES,
        **block.TABLES,
        **vchan_send.TABLES,
        **recording.TABLES,
        **start.TABLES,
        **crews.BENCHMARKS,
        **kernels.BENCHMARKS,
    }
    entries |= {**laboratory.BENCHMARKS, **blkback.BENCHMARKS} if lab else {}
    tables: dict[str, list[Figure]] = {}
    for title, entry in entries.items():
        if names and not any(title.lower().startswith(name.lower()) for name in names):
            continue
        builds = here if title in BOTH else {FASTEST: here[FASTEST]}
        figures = entry.measure(builds, before) if isinstance(entry, Table) else entry()
        tables[title] = compared(title, figures, recorded) if recorded else figures
        show(title, tables[title])
    if record is not None:
        history.add(record, tables, HERE)


main()
