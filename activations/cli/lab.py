"""`activations lab`: the real Xen under QEMU, by hand."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import click

from activations import backend as backends
from activations.cli.output import Screen
from activations.errors import BackendError
from activations.outcome import Observer


@runtime_checkable
class HasShell(Protocol):
    """What a backend offers beyond `Backend` where a person can look around in its domains."""

    def shell(self, domain: str, observer: Observer) -> int:
        """An interactive shell in this domain, on this terminal; give its exit status.

        Raises `BackendError` if there is no such domain, or no way to have one.
        """


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
