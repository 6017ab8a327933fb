"""Granted pages that the other end maps still.

Xen does not give pages back while they are mapped, and the other end takes its time to unmap: a
back end is told of the end by its watch on xenstore. So the end that granted them hands them over
here and goes on; the last of them are waited for in the end.
"""

from __future__ import annotations

import asyncio
import errno

from activations.errors import XenError
from activations.grants import Grant
from activations.own import finish

LINGER = 10.0
"""Seconds in which the other end has to unmap."""
_FIRST_PAUSE = 0.001
_LAST_PAUSE = 0.1


class Leftovers:
    """Grants that are to be closed, as soon as Xen lets them go."""

    def __init__(self) -> None:
        self._grants: list[Grant] = []

    def __len__(self) -> int:
        """Grants that are not closed yet."""
        return len(self._grants)

    def close(self, *grants: Grant) -> None:
        """Close these, and those left from before; keep what is still mapped."""
        self._grants = [grant for grant in (*self._grants, *grants) if _mapped(grant)]

    async def aclose(self) -> None:
        """Wait until all of them are closed, cancelled or not.

        Raises `XenError` (EBUSY) if the other end maps one for `LINGER` seconds more.
        """
        if self._grants:
            await finish(self._wait(), name="pages that the other end maps still")

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + LINGER, _FIRST_PAUSE
        try:
            while self._grants and loop.time() < deadline:
                self.close()
                if self._grants:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LAST_PAUSE)
        finally:
            left, self._grants = self._grants, []
            for grant in left:
                grant.close()


def _mapped(grant: Grant) -> bool:
    """Close a grant; say whether Xen refuses because the other end maps it."""
    try:
        grant.close()
    except XenError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    return False
