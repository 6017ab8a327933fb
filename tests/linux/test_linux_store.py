"""The way to xenstored, over a socket whose other end the test holds."""

import asyncio
import os
import socket
import threading

import pytest
from support.pace import patience

from activations import BackendError
from activations.abi.xs_wire import MessageType
from activations.store import WireError
from activations.store.descriptor import DescriptorConnection
from activations.store.wire import Decoder, Message
from xen_linux import store
from xen_linux.store import DeviceConnection


class Heard:
    """What a connection tells."""

    def __init__(self):
        self.data = bytearray()
        self.refusals = []
        self.ends = []

    def received(self, data):
        self.data += data

    def refused(self, message, error):
        self.refusals.append((message, error))

    def lost(self, error):
        self.ends.append(error)

    async def until(self, condition):
        async with asyncio.timeout(patience(30)):
            while not condition():
                await asyncio.sleep(0)


def pair_of(kind):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = kind(ours.detach())
    with theirs:
        yield connection, theirs
    connection.close()


@pytest.fixture
def pair():
    yield from pair_of(DescriptorConnection)


@pytest.fixture
def pair_of_device():
    yield from pair_of(DeviceConnection)


def listening(work):
    """Run a coroutine function with a connection that listens, and what it tells."""

    def test(connection, theirs):
        async def main():
            heard = Heard()
            connection.start(heard)
            try:
                await work(connection, theirs, heard)
            finally:
                connection.close()

        asyncio.run(main())

    return test


def test_bytes_come_and_go(pair):
    @listening
    async def main(connection, theirs, heard):
        connection.send(b"request")
        assert theirs.recv(100) == b"request"
        theirs.send(b"reply")
        await heard.until(lambda: heard.data == b"reply")

    main(*pair)


def test_messages_beyond_what_the_buffer_takes_are_sent_whole_and_in_order(pair):
    messages = [os.urandom(1 << 22), b"another", os.urandom(1 << 20)]
    whole = b"".join(messages)

    @listening
    async def main(connection, theirs, heard):
        received = bytearray()

        def drain():
            while len(received) < len(whole):
                received.extend(theirs.recv(1 << 16))

        for message in messages:
            connection.send(message)
        async with asyncio.timeout(patience(30)):
            await asyncio.to_thread(drain)
        assert received == whole

    main(*pair)


def test_the_end_of_the_daemon_is_told(pair):
    @listening
    async def main(connection, theirs, heard):
        theirs.close()
        await heard.until(lambda: heard.ends)
        assert heard.ends[0] is None

    main(*pair)


def test_nothing_is_told_after_the_close_and_nothing_is_left_watched(pair):
    @listening
    async def main(connection, theirs, heard):
        connection.send(os.urandom(1 << 22))  # more than there is room for
        theirs.send(b"reply")
        connection.close()
        connection.close()
        await settle()
        assert (heard.data, heard.ends, heard.refusals) == (b"", [], [])

    main(*pair)


def test_one_that_never_listened_is_closed_too(pair):
    connection, theirs = pair
    connection.close()
    assert theirs.recv(100) == b""


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
    requests = [Message(MessageType.READ, b"name\0", number) for number in (1, 2, 3)]

    @listening
    async def main(connection, theirs, heard):
        theirs.setblocking(False)

        def asked():
            try:
                return list(Decoder().feed(theirs.recv(4096)))
            except BlockingIOError:
                return []

        async def say(message):
            before = len(heard.data)
            theirs.send(message.encode())
            await heard.until(lambda: len(heard.data) > before)

        for request in requests:
            connection.send(request.encode())
        assert asked() == requests[:1]
        await say(Message(MessageType.WATCH_EVENT, b"name\0other\0"))
        assert asked() == [], "an event is no answer"
        await say(Message(MessageType.ERROR, b"ENOENT\0", 1))
        assert asked() == requests[1:2]
        await say(Message(MessageType.READ, b"dom0", 2))
        assert asked() == requests[2:]

    main(*pair_of_device)


def test_a_request_that_the_device_refuses_is_not_under_way(pair_of_device):
    first = Message(MessageType.READ, b"name\0", 1).encode()
    second = Message(MessageType.WATCH, b"name\0token\0", 2).encode()

    @listening
    async def main(connection, theirs, heard):
        theirs.close()
        connection.send(first)
        connection.send(second)
        assert [message for message, _ in heard.refusals] == [first, second]
        assert all(isinstance(error, BrokenPipeError) for _, error in heard.refusals)

    main(*pair_of_device)


def test_bytes_from_the_device_that_are_no_messages_end_it(pair_of_device):
    @listening
    async def main(connection, theirs, heard):
        theirs.send(b"\xff" * 16)
        await heard.until(lambda: heard.ends)
        assert isinstance(heard.ends[0], WireError)

    main(*pair_of_device)


async def settle():
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)
