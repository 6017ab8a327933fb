"""The paravirtual console, either end, as a stream of bytes.

    async with console.serve_first(xen, guest) as tty:       # in dom0: what a guest's hvc0 prints
        print(await tty.receive())
        await tty.send(b"uptime\n")

    async with console.serve(xen, device) as tty: ...        # the back end of a further console
    async with console.open(xen, device) as tty: ...         # its front end

The toolstack makes a guest's first console before the guest boots: a page and a port, which Linux
calls hvc0. Further ones are devices like others, and find their other end by the handshake.
"""

from activations.drivers.console.device import ConsoleBack, ConsoleFront, open, serve
from activations.drivers.console.first import serve_first, serve_page
from activations.drivers.console.line import BACK, FRONT, Line
from activations.drivers.console.stream import Console

__all__ = [
    "BACK",
    "FRONT",
    "Console",
    "ConsoleBack",
    "ConsoleFront",
    "Line",
    "open",
    "serve",
    "serve_first",
    "serve_page",
]


def __dir__() -> list[str]:
    return __all__
