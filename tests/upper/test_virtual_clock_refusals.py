"""What the virtual clock refuses: everything that would wait for the real world.

Each refusal names the operation and the clock that has it, comes before anything has happened,
and leaves nothing behind (the leak guard watches).
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

import activations
from activations import Domain, VirtualClockError

NAMES_THE_CLOCK = 'clock="wall"'

Attempt = Callable[[asyncio.AbstractEventLoop, socket.socket], Any]
"""What is tried, given the loop and a socket on which data waits to be read."""

ON_THE_LOOP: dict[str, Attempt] = {
    "add_reader": lambda loop, sock: loop.add_reader(sock, print),
    "add_writer": lambda loop, sock: loop.add_writer(sock, print),
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", "nowhere"),
    "sock_sendfile": lambda loop, sock: loop.sock_sendfile(sock, None),  # type: ignore[arg-type]
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, "nowhere"),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sendfile": lambda loop, sock: loop.sendfile(None, None),  # type: ignore[arg-type]
    "create_connection": lambda loop, sock: loop.create_connection(asyncio.Protocol, sock=sock),
    "connect_accepted_socket": lambda loop, sock: loop.connect_accepted_socket(
        asyncio.Protocol, sock
    ),
    "create_server": lambda loop, sock: loop.create_server(asyncio.Protocol, "127.0.0.1"),
    "create_datagram_endpoint": lambda loop, sock: loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=sock
    ),
    "create_unix_connection": lambda loop, sock: loop.create_unix_connection(
        asyncio.Protocol, "nowhere"
    ),
    "create_unix_server": lambda loop, sock: loop.create_unix_server(asyncio.Protocol, sock=sock),
    "connect_read_pipe": lambda loop, sock: loop.connect_read_pipe(asyncio.Protocol, sock),
    "connect_write_pipe": lambda loop, sock: loop.connect_write_pipe(asyncio.Protocol, sock),
    "subprocess_exec": lambda loop, sock: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
    "subprocess_shell": lambda loop, sock: loop.subprocess_shell(
        asyncio.SubprocessProtocol, "true"
    ),
    "run_in_executor": lambda loop, sock: loop.run_in_executor(None, os.getpid),
    "set_default_executor": lambda loop, sock: loop.set_default_executor(ThreadPoolExecutor()),
    "getaddrinfo": lambda loop, sock: loop.getaddrinfo("localhost", 80),
    "getnameinfo": lambda loop, sock: loop.getnameinfo(("127.0.0.1", 80)),
    "add_signal_handler": lambda loop, sock: loop.add_signal_handler(signal.SIGUSR1, print),
}

ABOVE_THE_LOOP: dict[str, Callable[[], Any]] = {
    "asyncio.open_connection": lambda: asyncio.open_connection("127.0.0.1", 1),
    "asyncio.start_server": lambda: asyncio.start_server(print, "127.0.0.1"),
    "asyncio.start_unix_server": lambda: asyncio.start_unix_server(print, "nowhere"),
    "asyncio.to_thread": lambda: asyncio.to_thread(os.getpid),
    "asyncio.create_subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
    "asyncio.create_subprocess_shell": lambda: asyncio.create_subprocess_shell("true"),
    "anyio.run_process": lambda: anyio.run_process("true"),
    "anyio.create_tcp_listener": lambda: anyio.create_tcp_listener(local_host="localhost"),
    "anyio.getaddrinfo": lambda: anyio.getaddrinfo("localhost", 80),
}


@pytest.fixture
def readable() -> Iterator[socket.socket]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.send(b"data")
        yield one


@pytest.mark.parametrize("name", ON_THE_LOOP)
def test_the_loop_refuses(name: str, readable: socket.socket) -> None:
    async def main(xen: Domain) -> None:
        with pytest.raises(VirtualClockError, match=NAMES_THE_CLOCK):
            outcome = ON_THE_LOOP[name](asyncio.get_running_loop(), readable)
            if inspect.isawaitable(outcome):
                await outcome

    activations.run(main)
    assert readable.recv(100) == b"data"


@pytest.mark.parametrize("name", ABOVE_THE_LOOP)
def test_what_is_built_on_the_loop_is_refused(name: str) -> None:
    async def main(xen: Domain) -> None:
        with pytest.raises(VirtualClockError, match=NAMES_THE_CLOCK):
            await ABOVE_THE_LOOP[name]()

    activations.run(main)


def test_no_way_out_is_forgotten() -> None:
    """Every method of the stock loop by which it reaches descriptors, processes or names."""
    reaching = ("add_", "connect_", "create_", "sock_", "subprocess_", "getaddr", "getname")
    stock = {name for name in dir(asyncio.SelectorEventLoop) if name.startswith(reaching)}
    assert stock - {"create_future", "create_task"} <= set(ON_THE_LOOP)


def test_another_thread_cannot_call_in() -> None:
    raised: list[BaseException] = []

    async def main(xen: Domain) -> None:
        def elsewhere() -> None:
            with pytest.raises(VirtualClockError, match=NAMES_THE_CLOCK) as refusal:
                xen.loop.call_soon_threadsafe(print)
            raised.append(refusal.value)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    activations.run(main)
    assert raised


def test_the_loops_own_thread_may_call_soon_threadsafe() -> None:
    """Libraries do that to be on the safe side."""

    async def main(xen: Domain) -> None:
        called = asyncio.Event()
        xen.loop.call_soon_threadsafe(called.set)
        await called.wait()

    activations.run(main)


@pytest.mark.parametrize("ends", ["before", "after"])
def test_a_thread_that_was_started_behind_the_loops_back_is_named(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """anyio starts its worker threads without a word to the loop: whether the thread's work ends
    before the simulation does or after it, the report says which clock has threads."""
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()

    async def main(xen: Domain) -> None:
        waiting = asyncio.create_task(anyio.to_thread.run_sync(work))
        await asyncio.sleep(1)
        begun.wait()
        if ends == "before":
            go_on.set()
            (worker,) = (each for each in threading.enumerate() if "AnyIO" in each.name)
            worker.join()
        await waiting

    with pytest.raises(activations.BlockedForever, match=NAMES_THE_CLOCK) as blocked:
        activations.run(main)
    assert "threads were started (AnyIO worker thread)" in str(blocked.value)
    go_on.set()
    for worker in threading.enumerate():
        if "AnyIO" in worker.name:
            worker.join()
    assert [type(error.exc_value) for error in told] == [VirtualClockError] * (ends == "before")
