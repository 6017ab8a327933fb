"""Which paths there are, and how they hang together.

A path is kept as the absolute string a client would write. Two are special: `@introduceDomain`
and `@releaseDomain` are not part of the tree, but can be watched and have permissions.
"""

from __future__ import annotations

import errno
import re

from activations.abi.xenstore_paths import home
from activations.abi.xs_wire import REL_PATH_MAX
from xen_sim.xenstored.refusal import Refused

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"

_CHARACTERS = re.compile(r"[A-Za-z0-9/_@-]+")
_HOME = re.compile(r"/local/domain/(?:[0-9]{1,5}|-[0-9]{1,4})/")
"""As C's scanf finds it: five characters of a number."""


def canonical(path: str, domid: int) -> str:
    """The path as this domain means it, be it one or not."""
    return path if path[:1] in ("/", "@") else f"{home(domid)}/{path}"


def absolute(path: str, domid: int) -> str:
    """The path of a node as this domain means it. EINVAL for what is none."""
    full = canonical(path, domid)
    if not _CHARACTERS.fullmatch(full) or full[0] == "@":
        raise Refused(errno.EINVAL)
    if (full != "/" and full.endswith("/")) or "//" in full or not _fits(full):
        raise Refused(errno.EINVAL)
    return full


def watchable(path: str, domid: int) -> str:
    """The same for a watch, which may also be on what is not a node: anything that begins with
    @."""
    if not path.startswith("@"):
        return absolute(path, domid)
    if len(path) > REL_PATH_MAX:
        raise Refused(errno.EINVAL)
    return path


def _fits(path: str) -> bool:
    at_home = _HOME.match(path)
    return len(path) - (at_home.end() if at_home else 0) <= REL_PATH_MAX


def parent(path: str) -> str:
    """The node above; above the root, the root itself."""
    return path[: path.rfind("/")] if "/" in path[1:] else "/"


def leaf(path: str) -> str:
    """The last part of the path."""
    return path[path.rfind("/") + 1 :]


def child(path: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if path == "/" else f"{path}/{name}"
