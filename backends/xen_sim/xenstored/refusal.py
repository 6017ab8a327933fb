"""How xenstored says no."""

from __future__ import annotations


class Refused(Exception):
    """A request fails with this errno; the reply is an ERROR message that carries its name."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno
