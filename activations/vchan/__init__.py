"""vchan: byte streams between two domains, compatible with libxenvchan.

    async with vchan.listen(xen, guest, f"/local/domain/{guest}/data/echo") as listener:
        async with await listener.accept() as stream:            # the server
            await stream.send(await stream.receive())

    async with await vchan.connect(xen, 0, "data/echo") as stream:  # the client
        await stream.send(b"hello")

A stream is an `anyio.abc.ByteStream`, a listener an `anyio.abc.Listener`: whatever is written for
those (buffered and text streams, TLS) works on them. `end` is the protocol without I/O, and says
how it loses no wake-up; `docs/vchan.md` is the user's view.
"""

from activations.vchan.client import connect
from activations.vchan.errors import VchanError
from activations.vchan.server import VchanListener, listen
from activations.vchan.stream import VchanStream

__all__ = ["VchanError", "VchanListener", "VchanStream", "connect", "listen"]


def __dir__() -> list[str]:
    return __all__
