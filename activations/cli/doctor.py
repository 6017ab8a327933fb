"""`activations doctor`: what this machine can do, and what would mend the rest."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version

import click
from rich.console import Console
from rich.text import Text

from activations import backend as backends
from activations import registry
from activations.backend import Check
from activations.cli import options
from activations.cli.output import write
from activations.cli.status import FAILED, WELL
from activations.errors import BackendError


@dataclass(frozen=True, slots=True)
class Finding:
    """A backend, and how it is with what it needs."""

    name: str
    checks: tuple[Check, ...]

    @property
    def usable(self) -> bool:
        return all(check.ok for check in self.checks)


@click.command(short_help="Say what this machine can do.")
@click.argument("names", metavar="[BACKEND]...", nargs=-1, shell_complete=options.complete_backend)
@options.as_json
def doctor(names: tuple[str, ...], as_json: bool) -> int:
    """Check what the backends need, and name the command that mends what is missing.

    Changes nothing. Exit status: 0 if each BACKEND named is usable (where none is named: if any
    installed one is), 1 if not, 2 for a BACKEND that is not installed.
    """
    installed = registry.names()
    for name in names:
        if name not in installed:
            backends.load(name)  # raises, and says which there are
    findings = [examine(name) for name in names or installed]
    if as_json:
        write(json.dumps(_as_data(findings)) + "\n")
    else:
        _show(findings)
    enough = all if names else any
    return WELL if enough(finding.usable for finding in findings) else FAILED


def examine(name: str) -> Finding:
    """Ask a backend; one that cannot even be loaded is a finding too."""
    try:
        checks = backends.load(name).doctor()
    except (BackendError, ImportError) as error:
        mend = "reinstall the package that brings it"
        checks = [Check("loads", False, f"{type(error).__name__}: {error}", mend)]
    return Finding(name, tuple(checks))


def _as_data(findings: list[Finding]) -> dict[str, object]:
    return {
        "version": version("xen-activations"),
        "python": platform.python_version(),
        "backends": [
            {
                "name": finding.name,
                "usable": finding.usable,
                "checks": [asdict(check) for check in finding.checks],
            }
            for finding in findings
        ],
    }


def _show(findings: list[Finding]) -> None:
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    good, bad = ("✓", "✗") if console.is_terminal else ("ok", "--")
    for finding in findings:
        state = ("usable", "green") if finding.usable else ("not usable here", "yellow")
        console.print(Text.assemble((finding.name, "bold"), ": ", state))
        for check in finding.checks:
            mark = (good, "green") if check.ok else (bad, "yellow")
            console.print(Text.assemble("  ", mark, f" {check.what}: ", (check.found, "dim")))
            if check.mend:
                console.print(Text.assemble("     ", (check.mend, "bold")))
