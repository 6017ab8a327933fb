"""The way to xenstored, over a socket whose other end the test holds."""

import asyncio
import os
import socket
import threading

import pytest

from activations import BackendError
from activations.abi.xs_wire import MessageType
from activations.store.wire import Decoder, Message
from xen_linux import store
from xen_linux.store import DescriptorConnection, DeviceConnection


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = DescriptorConnection(ours.detach())
    with theirs:
        yield connection, theirs
    connection.close()


@pytest.fixture
def pair_of_device():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = DeviceConnection(ours.detach())
    with theirs:
        yield connection, theirs
    connection.close()


def test_bytes_come_and_go(pair):
    connection, theirs = pair

    async def main():
        await connection.send(b"request")
        assert theirs.recv(100) == b"request"
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        theirs.send(b"reply")
        assert await waiting == b"reply"

    asyncio.run(main())


def test_a_message_larger_than_the_buffer_is_sent_whole(pair):
    connection, theirs = pair
    message = os.urandom(1 << 22)
    received = bytearray()

    def drain():
        while len(received) < len(message):
            received.extend(theirs.recv(1 << 16))

    async def main():
        async with asyncio.timeout(30):
            await asyncio.gather(asyncio.to_thread(drain), connection.send(message))

    asyncio.run(main())
    assert received == message


def test_the_end_of_the_daemon_is_empty_bytes(pair):
    connection, theirs = pair

    async def main():
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        theirs.close()
        assert await waiting == b""

    asyncio.run(main())


def test_closing_lets_the_receiver_go(pair):
    connection, _ = pair

    async def main():
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        connection.close()
        connection.close()
        assert await waiting == b""
        assert await connection.receive() == b""

    asyncio.run(main())


def test_a_cancelled_receive_leaves_nothing_behind(pair):
    connection, theirs = pair

    async def main():
        waiting = asyncio.create_task(connection.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        theirs.send(b"late")
        assert await connection.receive() == b"late"

    asyncio.run(main())


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """A xenstored of one answer, listening where the real one would."""
    path = str(tmp_path / "socket")
    monkeypatch.setattr(store, "SOCKETS", (path,))
    asked = []

    def start(kind, payload):
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()

        def serve():
            with listening, listening.accept()[0] as peer:
                asked.extend(Decoder().feed(peer.recv(4096)))
                reply = Message(kind, payload).encode()
                peer.send(reply[:10])
                peer.send(reply[10:])

        thread = threading.Thread(target=serve)
        thread.start()
        return asked, thread

    return start


def test_a_value_is_read_without_a_loop(daemon):
    asked, thread = daemon(MessageType.READ, b"7")
    assert store.read_now("domid") == "7"
    thread.join()
    assert asked == [Message(MessageType.READ, b"domid\0")]


def test_a_value_that_is_not_there_is_none(daemon):
    _, thread = daemon(MessageType.ERROR, b"ENOENT\0")
    assert store.read_now("domid") is None
    thread.join()


def test_a_daemon_that_does_not_answer_is_not_waited_for_forever(tmp_path, monkeypatch):
    path = str(tmp_path / "socket")
    monkeypatch.setattr(store, "SOCKETS", (path,))
    monkeypatch.setattr(store, "_PATIENCE", 0.01)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with pytest.raises(BackendError, match="does not answer"):
            store.read_now("domid")


def test_without_a_daemon_the_device_is_tried(tmp_path, monkeypatch):
    left_behind, none = str(tmp_path / "socket"), str(tmp_path / "none")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(left_behind)
    out_of_reach = f"{left_behind}/below"
    monkeypatch.setattr(store, "SOCKETS", (none, left_behind, out_of_reach))
    monkeypatch.setattr(store, "DEVICE", str(tmp_path / "xenbus"))
    with pytest.raises(BackendError, match="not a Xen domain"):
        store.connect()


def test_the_device_is_asked_for_one_thing_at_a_time(pair_of_device):
    """The kernel would send the second one's bytes for the first's: see `DeviceConnection`."""
    connection, theirs = pair_of_device
    theirs.setblocking(False)
    requests = [Message(MessageType.READ, b"name\0", number) for number in (1, 2, 3)]

    def asked():
        try:
            return list(Decoder().feed(theirs.recv(4096)))
        except BlockingIOError:
            return []

    async def send_all():
        for request in requests:
            await connection.send(request.encode())

    async def receive_for_ever():
        while await connection.receive():
            pass

    async def main():
        receiving = asyncio.create_task(receive_for_ever())
        sending = asyncio.create_task(send_all())
        await settle()
        assert asked() == requests[:1]
        theirs.send(Message(MessageType.WATCH_EVENT, b"name\0other\0").encode())
        await settle()
        assert asked() == [], "an event is no answer"
        theirs.send(Message(MessageType.ERROR, b"ENOENT\0", 1).encode())
        await settle()
        assert asked() == requests[1:2]
        theirs.send(Message(MessageType.READ, b"dom0", 2).encode())
        await sending
        assert asked() == requests[2:]
        connection.close()
        await receiving

    asyncio.run(main())


def test_closing_the_device_lets_go_of_who_wants_to_watch(pair_of_device):
    connection, _ = pair_of_device

    async def main():
        await connection.send(Message(MessageType.READ, b"name\0", 1).encode())
        watching = connection.send(Message(MessageType.WATCH, b"name\0token\0", 2).encode())
        sending = asyncio.create_task(watching)
        await settle()
        assert not sending.done()
        connection.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await sending

    asyncio.run(main())


def test_a_request_that_the_device_refuses_is_not_under_way(pair_of_device):
    connection, theirs = pair_of_device
    theirs.close()

    async def main():
        with pytest.raises(BrokenPipeError):
            await connection.send(Message(MessageType.READ, b"name\0", 1).encode())
        with pytest.raises(BrokenPipeError):
            await connection.send(Message(MessageType.WATCH, b"name\0token\0", 2).encode())

    asyncio.run(main())


async def settle():
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0.001)
