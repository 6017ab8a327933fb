"""`activations demo`: which room, on which backend, with which disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import click

from activations import registry
from activations.cli import options
from activations.cli.demo.view import Lines, View
from activations.cli.ending import status_of
from activations.cli.output import Reporter
from activations.cli.run import perform
from activations.demo import Plan
from activations.drivers.block import FileDisk
from activations.drivers.block.errors import ImageError, ImageInUse
from activations.errors import ActivationsError, BackendError
from activations.offers import LendsDisks
from activations.outcome import RunOptions

HERE = Plan()
"""What takes about two seconds where all is in one process."""
ELSEWHERE = Plan(size=4 << 20, pings=100, talk=4 << 20, every=0.5)
"""What takes no longer than a minute on a machine that is emulated."""
SCENARIO = "room.py"


ONE_DOMAIN_ALONE = "linux"
"""The backend that runs in one domain, the one that it is started in."""


class NoDisk(ActivationsError):
    """There is no such file, or none that could be a disk, or somebody else has it."""


@click.command(short_help="See it work: a disk, a network, a vchan.")
@options.backend_among("sim, or lab: a real Xen, emulated")
@click.option(
    "--disk",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The image that is read; it is not written to.  [default: one that dom0 makes]",
)
@click.option(
    "--format",
    "format",
    type=click.Choice(["raw"]),
    help="FILE is raw, though it looks like an image of another format.",
)
@options.as_json
@options.diagnostics
def demo(
    backend: str,
    disk: Path | None,
    format: Literal["raw"] | None,
    as_json: bool,
    level: str | None,
    verbose: int,
    debug: bool,
) -> int:
    """Run a machine room: dom0, and two guests that use what it serves.

    alice reads a disk, which is a file in dom0, through blkfront and blkback; she pings bob through
    a switch in dom0; the two talk over a vchan. What was read is compared with the file, what was
    heard with what was said. Rates are per second of real time.

    Exit status: 0 if all is well, 1 if something differs or a domain failed, 2 if it could not be
    tried (no such file), 130 if interrupted.
    """
    reporter: Reporter = Lines() if as_json else View()

    def run() -> int:
        with _planned(backend, disk, format) as plan, _written(plan) as target:
            return perform(str(target), backend, RunOptions(), reporter, debug)

    with options.diagnosing(level, verbose, debug):
        return status_of(run, reporter)


@contextmanager
def _planned(
    backend: str, disk: Path | None, format: Literal["raw"] | None = None
) -> Iterator[Plan]:
    """How much is to be done there, and with which disk."""
    if backend == ONE_DOMAIN_ALONE:
        raise BackendError(
            "the machine room has three domains, and backend 'linux' runs in one: try it on a "
            "simulated Xen (--backend sim), or on a real one that is emulated (--backend lab)"
        )
    plan = HERE if backend == "sim" else ELSEWHERE
    if disk is None:
        yield plan
        return
    found = registry.find(backend)
    lent = found.lending(disk) if isinstance(found, LendsDisks) else nullcontext(disk.absolute())
    with opened(disk, format) as file, lent as image:  # locked here: the lab's machine does not
        yield replace(plan, image=str(image), name=disk.name, size=file.size)


def opened(disk: Path, format: Literal["raw"] | None = None) -> FileDisk:
    """A file or block device, to be read. Raises `NoDisk` if it cannot be read as a disk."""
    try:
        return FileDisk(disk, read_only=True, format=format)
    except ImageInUse as error:
        raise NoDisk(f"{error} (or name a copy of it)") from error
    except ImageError as error:
        raise NoDisk(str(error)) from error
    except OSError as error:
        raise NoDisk(f"{disk} cannot be read: {error.strerror}") from error


@contextmanager
def _written(plan: Plan) -> Iterator[Path]:
    """The scenario's file."""
    with TemporaryDirectory(prefix="activations-demo-") as folder:
        target = Path(folder, SCENARIO)
        target.write_text(plan.as_file())
        yield target
