"""`activations lab`: the real Xen under QEMU, by hand."""

from __future__ import annotations

import sys
from typing import Protocol, runtime_checkable

import click

from activations import backend as backends
from activations.backend import Observer
from activations.cli.output import Screen
from activations.errors import BackendError


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
@click.argument("domain", default="dom0", metavar="[DOMAIN]")
def shell(domain: str) -> int:
    """Boot the lab and open a shell in DOMAIN, which is dom0 unless you say otherwise.

    The lab ends with the shell. Exit status: the shell's; 2 if there can be none.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("a shell needs a terminal")
    backend = backends.load("lab")
    if not isinstance(backend, HasShell):
        raise BackendError("the installed backend 'lab' offers no shell: upgrade xen-activations")
    screen = Screen()
    try:
        return backend.shell(domain, screen)
    finally:
        screen.close()
