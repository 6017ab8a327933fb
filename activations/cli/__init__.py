"""The `activations` command.

    activations run FILE        a scenario, on a simulated Xen or a real one
    activations explore FILE    its interleavings, until one breaks a promise; also replay
    activations demo            see it work
    activations attach          a disk or an interface for a running guest
    activations detach          take it away, where that was killed
    activations doctor          what this machine can do
    activations lab shell       a shell in the lab's dom0
    activations store           xenstore, by hand
    activations vchan           bytes to and from another domain

Exit status, in all of them: see `status`.
"""

from __future__ import annotations

import click

from activations.cli.attach import attach
from activations.cli.demo import demo
from activations.cli.detach import detach
from activations.cli.doctor import doctor
from activations.cli.ending import ENDING, orderly
from activations.cli.explore import explore, replay
from activations.cli.lab import lab
from activations.cli.output import Screen
from activations.cli.run import run
from activations.cli.status import INTERRUPTED, NOT_TRIED
from activations.cli.store import store
from activations.cli.streams import guarded
from activations.cli.vchan import vchan
from activations.errors import ActivationsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xen-activations", message="activations %(version)s")
def command() -> None:
    """A cooperative runtime for Xen guests in asyncio: on a simulated Xen, or a real one."""


for _subcommand in (run, explore, replay, demo, attach, detach, doctor, lab, store, vchan):
    command.add_command(_subcommand)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; give its exit status."""
    try:
        with orderly(), guarded():
            status = _run(arguments)
    except KeyboardInterrupt:  # another one, while the first was taken
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
        Screen().failed(error)
        return NOT_TRIED
