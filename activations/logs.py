"""Logs: silent in a library, for the application to route; the `activations` command shows them.

Events go to the standard library's logger `activations`, with what was bound (the domain, the
port) as attributes of the record. Until somebody adds a handler nothing is written anywhere;
`shown` adds one that is readable on a terminal and JSON elsewhere.

structlog is imported where something is logged: it brings rich, and half of what `import
activations` would take.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

NAME = "activations"

logging.getLogger(NAME).addHandler(logging.NullHandler())


def logger(**bound: Any) -> Any:
    """A structlog logger with these values bound: `logger(domain="guest").info("port bound")`."""
    import structlog

    return structlog.wrap_logger(
        logging.getLogger(NAME),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        **bound,
    )


class _ToStderr(logging.StreamHandler[IO[str]]):
    """Writes to what `sys.stderr` is at that moment: while a spinner turns there, it is another
    stream, which leaves the spinner in peace."""

    def __init__(self, *, readable: bool) -> None:
        super().__init__(sys.stderr)
        self._readable = readable

    def format(self, record: logging.LogRecord) -> str:
        if self.formatter is None:
            self.formatter = _formatter(readable=self._readable)
        return super().format(record)

    @property
    def stream(self) -> IO[str]:
        return sys.stderr

    @stream.setter
    def stream(self, stream: IO[str]) -> None:
        """It has no stream of its own."""


@contextmanager
def shown(level: str) -> Iterator[None]:
    """Inside the block, write to stderr what is logged from `level` on, and asyncio's warnings.

    `level` is `debug`, `info`, `warning` or `error`.
    """
    handler = _ToStderr(readable=sys.stderr.isatty())
    ours, names = logging.getLogger(NAME), (NAME, "asyncio")
    before = ours.level
    ours.setLevel(level.upper())
    for name in names:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in names:
            logging.getLogger(name).removeHandler(handler)
        ours.setLevel(before)


def _formatter(*, readable: bool) -> logging.Formatter:
    import structlog

    ending: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if readable:
        plain = structlog.dev.plain_traceback
        ending += [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
    else:
        ending += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if readable else "iso"),
        ],
        processors=ending,
    )
