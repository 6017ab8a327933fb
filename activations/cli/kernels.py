"""`--kernel`: what `explore` and `replay` are told of a kernel's own C, in place of a program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from activations import registry
from activations.cli.options import F, Whole

PLACE = click.Path(path_type=Path)
ALONE = (
    "include",
    "harness",
    "define",
    "abi",
    "spread",
    "timer",
    "buffers",
    "arch",
    "passes",
    "memory",
)
"""Options that go with `--kernel` alone."""
PROGRAMS = ("late", "guest", "faults", "runs", "seed")
"""And those that do not go with it."""


def options(command: F) -> F:
    """`--kernel`, and what goes with it."""
    for option in (
        click.option(
            "--memory",
            type=Whole(16),
            metavar="MIB",
            help="For the states that were seen.  [default: 3072]",
        ),
        click.option(
            "--passes",
            type=Whole(1),
            metavar="K",
            help="A pending port is served within K passes, or it starves.",
        ),
        click.option("--arch", metavar="ARCH", help="Whose order of stores: x86, arm64."),
        click.option("--buffers", is_flag=True, help="Others see stores late, as x86 allows."),
        click.option("--timer", is_flag=True, help="The kernel sets timers, and they fire."),
        click.option("--spread", is_flag=True, help="Each port in a selector's word of its own."),
        click.option("--abi", metavar="ABI", help="What Xen offers: any, 2l, fifo."),
        click.option("--define", multiple=True, metavar="NAME[=VALUE]", help="As gcc's -D."),
        click.option("--harness", type=PLACE, help="C that says who takes part: see explore.h."),
        click.option(
            "--include", multiple=True, type=PLACE, help="A folder of headers, or a header."
        ),
        click.option(
            "--kernel",
            multiple=True,
            metavar="FILE...",
            help="A kernel's own C, or the name of a lower half that comes along.",
        ),
    ):
        command = option(command)
    return command


def chosen(
    subject: dict[str, Any], files: Sequence[str], effort: dict[str, Any] | None = None
) -> tuple[Any, list[dict[str, Any]]] | None:
    """The explorer of kernels and what it explores, to be searched once for each delivery; None
    where the command line names no kernel. Raises `click.UsageError` for options that do not go
    together."""
    kernel = subject.pop("kernel")
    alone = {name: subject.pop(name) for name in ALONE}
    if not kernel:
        if given := [name for name in ALONE if alone[name]]:
            raise click.UsageError(f"--{given[0]} is about a kernel's C: name it with --kernel")
        return None
    for name in PROGRAMS:
        if {**subject, **(effort or {})}.get(name):
            raise click.UsageError(f"--{name} is about programs in Python, and --kernel is C")
    for name in ("guest", "faults", "late"):
        subject.pop(name)
    explorer = registry.find("sim").kernel_explorer
    asked = {**subject, **alone, "kernel": (*kernel, *files)}
    return explorer, explorer.subjects(asked) if effort else [asked]
