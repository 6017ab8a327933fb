"""What can be done with nodes, alike within a transaction and outside of one."""

from __future__ import annotations

import builtins
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable

from activations.abi.xs_wire import MessageType
from activations.store.errors import StoreError
from activations.store.permission import Permission
from activations.store.wire import join, octets, strings, text

Undo = Callable[[bytes | None], None]
"""What takes a request back that is not waited for any more, given its reply: None if there was
none to take back, since it was refused."""


class Nodes(ABC):
    """Reading and writing nodes. Every method raises `StoreError` with xenstored's errno, most
    often ENOENT and EACCES, and `ValueError` for a path with a NUL in it.

    A path begins with `/`, or is taken from the domain's home: `data/x` is
    `/local/domain/N/data/x`. Missing parents are made by `write` and `mkdir`.
    """

    @abstractmethod
    async def request(
        self, kind: MessageType, payload: bytes = b"\0", *, path: str = "", undo: Undo | None = None
    ) -> bytes:
        """Send any request as it is; give its reply's payload. `path` is for the error alone."""

    async def read(self, path: str) -> str:
        """The value, as UTF-8 (undecodable bytes become surrogate escapes)."""
        return text(await self.read_bytes(path))

    async def read_bytes(self, path: str) -> bytes:
        """The value as it is kept."""
        return await self.request(MessageType.READ, join(path), path=path)

    async def write(self, path: str, value: str | bytes | int) -> None:
        """Set the value, making the node if need be. A number is written in decimal."""
        await self.request(MessageType.WRITE, join(path) + octets(value), path=path)

    async def mkdir(self, path: str) -> None:
        """Make the node with an empty value; one that exists stays as it is."""
        await self.request(MessageType.MKDIR, join(path), path=path)

    async def rm(self, path: str) -> None:
        """Remove the node and all below it. No error if it is missing but its parent is there."""
        await self.request(MessageType.RM, join(path), path=path)

    async def exists(self, path: str) -> bool:
        """Whether the node is there. EACCES where this domain may not know."""
        try:
            await self.get_perms(path)
        except StoreError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    async def list(self, path: str) -> builtins.list[str]:
        """The names of the node's children, in xenstored's order (which it does not promise).

        However many there are: a listing over 4096 bytes is fetched in parts, or comes whole from
        an oxenstored over its socket. A guest of an oxenstored cannot have one: E2BIG.
        """
        try:
            return strings(await self.request(MessageType.DIRECTORY, join(path), path=path))
        except StoreError as error:
            if error.errno != errno.E2BIG:
                raise
        try:
            return await self._list_in_parts(path)
        except StoreError as error:
            if error.errno != errno.ENOSYS:
                raise
            detail = "over 4096 bytes, and this xenstored lists nothing in parts"
            raise StoreError(errno.E2BIG, MessageType.DIRECTORY, path, detail) from error

    async def _list_in_parts(self, path: str) -> builtins.list[str]:
        generation, listing = b"", b""
        while not listing.endswith(b"\0\0") and listing != b"\0":
            payload = join(path, str(len(listing)))
            reply = await self.request(MessageType.DIRECTORY_PART, payload, path=path)
            now, _, part = reply.partition(b"\0")
            if listing and now != generation:
                listing = b""  # the directory changed between two parts: begin again
            else:
                generation = now
                listing += part
        return strings(listing[:-1])

    async def get_perms(self, path: str) -> builtins.list[Permission]:
        """The node's permissions; the first is the owner's."""
        reply = await self.request(MessageType.GET_PERMS, join(path), path=path)
        return [Permission.parse(each) for each in strings(reply)]

    async def set_perms(self, path: str, *permissions: Permission | str) -> None:
        """Replace the node's permissions: `set_perms(path, "n0", "r5")`.

        The owner may do it, and dom0. Raises `ValueError` for what is not a permission.
        """
        parsed = [p if isinstance(p, Permission) else Permission.parse(p) for p in permissions]
        payload = join(path, *map(str, parsed))
        await self.request(MessageType.SET_PERMS, payload, path=path)
