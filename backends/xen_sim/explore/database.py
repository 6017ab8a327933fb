"""Failures that were found before, in `.activations/`: tried first the next time.

A file for each token: the program's identity, what was found, and every question of the run with
its answer, so that a program that has changed is told at the first choice that differs. A failure
that no longer comes is forgotten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xen_sim.explore.token import Token, TokenError, parse
from xen_sim.schedule.tape import Taken

FOLDER = Path(".activations")


class Kept(NamedTuple):
    """A failure from before."""

    token: Token
    kind: str
    taken: tuple[Taken, ...]
    path: Path


class Database:
    """Failures in a folder, which is made when there is one."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def keep(self, token: str, identity: str, kind: str, taken: tuple[Taken, ...]) -> None:
        """Whole or not at all: others may be reading. Raises `OSError` where it cannot be."""
        self.folder.mkdir(exist_ok=True)
        ignored = self.folder / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n")
        said = {"token": token, "program": identity, "found": kind, "taken": taken}
        fresh = self.folder / f"{token}.{os.getpid()}"
        try:
            fresh.write_text(json.dumps(said) + "\n")
            fresh.replace(fresh.with_suffix(".json"))
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def of(self, identity: str) -> Iterator[Kept]:
        """The failures of this program. A file that is none is passed over."""
        for path in sorted(self.folder.glob("x*.json")):
            try:
                if not path.is_file():  # a FIFO would be waited for
                    continue
                said = json.loads(path.read_text())
                if said["program"] == identity:
                    taken = tuple(
                        Taken(point, tuple(options), answer)
                        for point, options, answer in said["taken"]
                    )
                    yield Kept(parse(str(said["token"])), str(said["found"]), taken, path)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, TokenError):
                continue  # whatever else lies there

    def forget(self, kept: Kept) -> None:
        kept.path.unlink(missing_ok=True)
