"""Options that several subcommands share, and what they complete to in a shell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from activations import logs, registry

F = TypeVar("F", bound=Callable[..., Any])
ASYNCIO_DEBUG = "PYTHONASYNCIODEBUG"


class Seconds(click.FloatRange):
    """A time as a number: neither nan nor inf, which Python takes for one too."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        try:
            is_time = isfinite(float(value))
        except ValueError:
            is_time = False
        if not is_time:
            self.fail(f"{value!r} is not a number of seconds: give one, as 2.5", param, context)
        seconds: float = super().convert(value, param, context)
        return seconds


class Whole(click.IntRange):
    """A whole number in a range, which is what an error calls it."""

    name = "whole number"


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # its name is too long, or lies where nobody may look
        return path.is_dir()
    return False


class Written(click.Path):
    """A file that will be written. Whether it can be is seen before there is anything to lose."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, context)))
        folder = path.absolute().parent
        if not _is_folder(folder):
            self.fail(f"no folder {path.parent}", param, context)
        if not path.exists() and not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{folder} may not be written to", param, context)
        return path


OUT = Written()


def complete_file(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def complete_backend(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(name) for name in registry.names() if name.startswith(incomplete)]


def backend_among(places: str) -> Callable[[F], F]:
    """`--backend`; `places` says which there are."""
    return click.option(
        "-b",
        "--backend",
        default="sim",
        show_default=True,
        metavar="NAME",
        shell_complete=complete_backend,
        help=f"Where to run: {places}.",
    )


def backend(command: F) -> F:
    """`--backend`, any."""
    return backend_among("sim, linux, lab, or another that is installed")(command)


def as_json(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(
        command
    )


def diagnostics(command: F) -> F:
    """`--log`, `-v`, `--debug`: what `diagnosing` takes."""
    for option in (
        click.option("--debug", is_flag=True, help="asyncio's debug mode, and whole tracebacks."),
        click.option("-v", "verbose", count=True, help="--log info; -vv: --log debug."),
        click.option(
            "--log",
            "level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            help="Show the log on stderr, from this level on.  [default: warning]",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def diagnosing(level: str | None, verbose: int, debug: bool) -> Iterator[None]:
    """Inside the block, logs are shown and asyncio is in its debug mode, as the options say."""
    level = level or ("warning", "info", "debug")[min(verbose, 2)]
    before = os.environ.get(ASYNCIO_DEBUG, "")
    with logs.shown(level):
        os.environ[ASYNCIO_DEBUG] = "1" if debug else before
        try:
            yield
        finally:
            os.environ[ASYNCIO_DEBUG] = before


def store_path(value: str) -> str:
    """A path of xenstore. It knows none that end in a slash; people do."""
    if not value:
        raise click.BadParameter("the path is empty: give one, as data/port or /local/domain")
    return value.rstrip("/") or "/"
