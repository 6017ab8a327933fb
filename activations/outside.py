"""What of asyncio's loops has to do with the real world, for loops that have none, or must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

OUTSIDE = (
    *("run_in_executor", "set_default_executor", "getaddrinfo", "getnameinfo"),
    *("add_signal_handler", "subprocess_exec", "subprocess_shell"),
    *("create_connection", "create_server", "create_datagram_endpoint"),
    *("create_unix_connection", "create_unix_server", "connect_accepted_socket"),
    *("connect_read_pipe", "connect_write_pipe", "sendfile", "sock_sendfile"),
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"),
    *("sock_sendall", "sock_sendto", "sock_connect", "sock_accept"),
)
"""A loop's methods that have to do with the real world."""


def refuse_outside(loop: type, refuse: Callable[[str], NoReturn]) -> None:
    """Have a class of loops refuse all of it: `refuse` is called with the method's name."""
    for name in OUTSIDE:
        setattr(loop, name, _refusing(name, refuse))


def _refusing(name: str, refuse: Callable[[str], NoReturn]) -> Callable[..., NoReturn]:
    def refused(self: object, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(name)

    refused.__name__ = name
    return refused
