"""`activations lab`: the real Xen under QEMU, by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from activations import backend as backends
from activations.backend import Kept
from activations.cli import options
from activations.cli.output import Screen, write
from activations.cli.status import WELL
from activations.errors import BackendError
from activations.offers import HasCache, HasShell


@click.group()
def lab() -> None:
    """The lab: a real Xen, emulated, on this machine."""


@lab.command(short_help="A shell in one of the lab's domains.")
@click.argument("domain", default="dom0", type=click.Choice(["dom0", "pvh", "pv"]))
def shell(domain: str) -> int:
    """Boot the lab and open a shell in dom0, or in a guest of this kind made for it.

    Ctrl-] leaves it at any time; the lab ends with the shell. Exit status: the shell's, or 2 if
    there can be none.
    """
    backend = backends.load("lab")
    if not isinstance(backend, HasShell):
        raise BackendError("the installed backend 'lab' offers no shell: upgrade it")
    return backend.shell(domain, Screen(spinner=False))  # the terminal will be the shell's


@lab.command("cache", short_help="What the lab keeps on disk, and how much it takes.")
@options.as_json
def cache_(as_json: bool) -> int:
    """Show what was fetched and made for the lab, with sizes. Changes nothing."""
    kept = keeper().kept()
    if as_json:
        write(json.dumps({"kept": [_as_data(each) for each in kept]}) + "\n")
    elif kept:
        write(f"{_lines(kept)}{megabytes(*kept):>7}  in {kept[0].path.parent}\n")
    else:
        write("nothing is kept: the first run fetches what it needs\n")
    return WELL


@lab.command(short_help="Take Debian's newer packages into the lab.")
def refresh() -> int:
    """Ask Debian for newer packages of what the lab is made from, and make it anew if it has any.

    Makes the lab's image where there is none yet. Exit status: 2 if Debian cannot be asked, or
    a lab is running.
    """
    screen = Screen()
    try:
        changes = keeper().refresh(screen)
    finally:
        screen.close()
    for change in changes:
        write(f"{change}\n")
    if not changes:
        write("Debian has nothing newer\n")
    return WELL


@lab.command(short_help="Free the disk space that the lab takes.")
@click.option("--old", is_flag=True, help="Leave what the next run needs.")
def clean(old: bool) -> int:
    """Remove what was fetched and made for the lab; the next run fetches it anew (90 MB).

    Exit status: 2 if a lab is running, and nothing is removed.
    """
    removed = keeper().clean(old=old)
    write(f"{_lines(removed)}{megabytes(*removed):>7}  freed\n")
    return WELL


def keeper() -> HasCache:
    """The backend `lab`, which has to have a cache."""
    backend = backends.load("lab")
    if not isinstance(backend, HasCache):
        raise BackendError("the installed backend 'lab' shows no cache: upgrade it")
    return backend


def megabytes(*kept: Kept) -> str:
    return f"{sum(each.size for each in kept) / 1e6:.0f} MB"


def _lines(kept: Sequence[Kept]) -> str:
    return "".join(
        f"{megabytes(each):>7}  {each.what}{each.detail and ': '}{each.detail} ({each.path.name})\n"
        for each in kept
    )


def _as_data(kept: Kept) -> dict[str, object]:
    return {
        "what": kept.what,
        "path": str(kept.path),
        "bytes": kept.size,
        "detail": kept.detail,
        "needed": kept.needed,
    }
