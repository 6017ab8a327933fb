"""Log records on their way from a half to the host, a line of JSON each.

A half logs as on any backend. Its records are sent to the host and logged there anew, under the
same logger's name and with the domain's: what shows, routes or counts logs on the host has
those of its domains among them.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

LOGGERS = ("activations", "asyncio")
"""Whose records are sent."""
OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has. The rest was bound to it: the domain, the port."""


class Sender(logging.Handler):
    """Writes records to a descriptor."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        try:
            data = encode(record)
            while data:
                data = data[os.write(self._descriptor, data) :]
        except Exception:
            self.handleError(record)


def wanted() -> int:
    """From which level on somebody on the host wants to hear."""
    return max(logging.getLogger(LOGGERS[0]).getEffectiveLevel(), logging.NOTSET + 1)


def send(descriptor: int, level: int) -> None:
    """From now on, send what is logged in this process from this level on."""
    logging.getLogger(LOGGERS[0]).setLevel(level)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(Sender(descriptor))


def encode(record: logging.LogRecord) -> bytes:
    """A record as its line. A bound value that JSON cannot say becomes its repr."""
    bound = {name: value for name, value in vars(record).items() if name not in OWN}
    if record.exc_info:
        bound["exception"] = logging.Formatter().formatException(record.exc_info)
    said = {
        "name": record.name,
        "levelno": record.levelno,
        "levelname": record.levelname,
        "msg": record.getMessage(),
        "bound": bound,
    }
    return json.dumps(said, default=repr).encode() + b"\n"


def decode(line: bytes | str, domain: str) -> logging.LogRecord:
    """The record in a line, of this domain unless it says otherwise; an exception's traceback is
    bound as `exception`. Raises `ValueError` for a line that holds none."""
    said: dict[str, Any] = json.loads(line)
    try:
        bound = {"domain": domain, **said.pop("bound")}
        return logging.makeLogRecord({**bound, **said, "exc_text": bound.get("exception")})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{line!r} is not a log record") from error


def log(record: logging.LogRecord) -> None:
    """Log it here."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
