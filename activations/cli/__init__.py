"""The `activations` command.

    activations run FILE        a scenario, on a simulated Xen or a real one
    activations explore FILE    its interleavings, until one breaks a promise; also replay
    activations top             ports, rates and latencies of programs that run
    activations demo            see it work
    activations attach          a disk or an interface for a running guest
    activations detach          take it away, where that was killed
    activations doctor          what this machine can do
    activations lab shell       a shell in the lab's dom0
    activations store           xenstore, by hand
    activations evtchn          event channels, by hand: ls, ping, flood, watch
    activations vchan           bytes to and from another domain

Exit status, in all of them: see `status`. A subcommand's module is imported when that is asked for:
each brings what the others do not need.
"""

from __future__ import annotations

from importlib import import_module

import click

from activations.cli import hashes
from activations.cli.ending import ENDING, give_back, orderly
from activations.cli.status import INTERRUPTED, NOT_TRIED
from activations.cli.streams import guarded
from activations.errors import ActivationsError

SUBCOMMANDS = {
    "attach": "Give a running guest a disk or an interface.",
    "demo": "See it work: a disk, a network, a vchan.",
    "detach": "Take a device away that `attach` left behind.",
    "doctor": "Say what this machine can do.",
    "evtchn": "Event channels, by hand: list, ping, flood, watch.",
    "explore": "Try a program's interleavings until one breaks a promise.",
    "lab": "The lab: a real Xen, emulated, on this machine.",
    "replay": "See again what explore found, or run --record noted.",
    "run": "Run a scenario.",
    "store": "xenstore, by hand; and a simulated one to speak to.",
    "top": "Ports, rates and latencies of programs that run.",
    "vchan": "Bytes to and from another domain: a netcat.",
}
"""What each does, in a line, which `--help` says without importing any."""
MODULES = {name: name for name in SUBCOMMANDS} | {"replay": "explore"}
"""Where a subcommand is, by its name."""


class Subcommands(click.Group):
    """Those of `MODULES`."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(MODULES)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(SUBCOMMANDS.items()))

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in MODULES:
            return None
        module = import_module(f"activations.cli.{MODULES[name]}")
        found: click.Command = getattr(module, name)
        return found


@click.group(cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xen-activations", message="activations %(version)s")
def command() -> None:
    """A cooperative runtime for Xen guests in asyncio: on a simulated Xen, or a real one."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; give its exit status."""
    if arguments is None:
        hashes.fix()
    try:
        with orderly(), guarded():
            status = _run(arguments)
    except KeyboardInterrupt:  # another one, while the first was taken; or one as all was over
        give_back()
        status = INTERRUPTED
    return status if ENDING.status is None else ENDING.status


def _run(arguments: list[str] | None) -> int:
    try:
        return int(command.main(arguments, prog_name="activations", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ActivationsError as error:
        from activations.cli.output import Screen

        Screen().failed(error)
        return NOT_TRIED
