"""What the commands on event channels share: where they run, and how they find a domain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from activations import scenario
from activations.cli import options
from activations.cli.domains import domid_of
from activations.cli.options import F
from activations.domain import Domain
from activations.errors import BackendError, DomainFailed
from activations.evtchn.scenarios import CALLER, as_file
from activations.outcome import Observer

HERE = "linux"
"""The backend of the domain that this process runs in: one domain alone."""
LAB = "lab"
SIM = "sim"
FILE = "event_channels.py"


def backend(command: F) -> F:
    """`--backend`."""
    return click.option(
        "-b",
        "--backend",
        default=HERE,
        show_default=True,
        metavar="NAME",
        shell_complete=options.complete_backend,
        help="linux: the domain this is; sim: a simulated Xen; lab: a real one, emulated here.",
    )(command)


@contextmanager
def said_where_else() -> Iterator[None]:
    """Inside the block, an error that this is no Xen domain says where else it can be tried."""
    try:
        yield
    except BackendError as error:
        if "not a Xen domain" not in str(error):
            raise
        raise BackendError(
            f"{error}. To try it without: --backend sim (a simulated Xen), --backend lab (a real "
            "one, emulated on this machine)"
        ) from None


async def number_of(xen: Domain, domain: str) -> int:
    """The domid that is meant. In dom0 it has to be a domain that there is; elsewhere a name can
    not be looked up, but for dom0's own."""
    if domain == CALLER:
        return 0
    if xen.domid == 0:
        return await domid_of(xen, domain)
    if not domain.isdecimal():
        raise BackendError(
            f"only dom0 may look up a domain's number by its name: say the number of {domain!r}"
        )
    return int(domain)


def run_scenario(call: str, backend: str, observer: Observer) -> Any:
    """Run the scenario that a call of `evtchn.scenarios` gives; what its caller returned.

    Raises `DomainFailed` with the traceback of a half that raised.
    """
    with TemporaryDirectory(prefix="activations-evtchn-") as folder:
        file = Path(folder, FILE)
        file.write_text(as_file(call))
        outcome = scenario.load(str(file)).outcome(backend, observer=observer)
    if outcome.failures:
        raise DomainFailed(outcome.failures)
    return outcome.results[CALLER]
