"""Our ends of a network device against Linux's, on a real Xen: for test_net_linux.py."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from random import Random
from struct import pack

from dpkt.arp import ARP, ARP_OP_REPLY, ARP_OP_REQUEST
from dpkt.ethernet import Ethernet
from dpkt.icmp import ICMP, ICMP_ECHO, ICMP_ECHOREPLY
from dpkt.ip import IP
from dpkt.udp import UDP
from patience import patience

from activations import Domain, Scenario
from activations.drivers import net
from activations.drivers.net import NicClosed, Statistics, Tap
from activations.xenbus import Device, front_device, plug, unplug

PATIENCE = patience(120)
MAC = "00:16:3e:5a:00:01"
DOM0, GUEST = "10.99.0.1", "10.99.0.2"
PORT = 5001
MUCH, MUCH_LONG = 2 << 20, 16 << 20
"""Bytes in large frames."""
SMALLER = 8
"""What part of that goes in small frames, each of which costs the emulated processor the same."""
PIECE = 1 << 16
MTU = 9000
"""Of large frames, in three pages; small ones are of 1500 bytes, as everywhere."""


def command(*words: object) -> str:
    """Run a program to its end; give what it said. It has to end well."""
    done = subprocess.run(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    said = done.stdout.decode(errors="replace")
    assert not done.returncode, f"{words} ended with {done.returncode}: {said}"
    return said


async def patiently(*words: object) -> str:
    """As `command`, while the loop runs on."""
    return await asyncio.to_thread(command, *words)


def load(module: str) -> None:
    """Have the kernel load a module, if it is not there yet."""
    if not Path("/sys/module", module.replace("-", "_")).exists():
        command("insmod", f"/modules/{module}.ko")


def unload(module: str) -> bool:
    """Have the kernel drop a module again; whether nothing used it any more."""
    return not subprocess.run(["rmmod", module], check=False, stderr=subprocess.DEVNULL).returncode


def there(interface: str) -> bool:
    """Whether there is a network device of this name."""
    return Path("/sys/class/net", interface).exists()


async def until(happens: Callable[[], bool]) -> None:
    while not happens():
        await asyncio.sleep(0.05)


def noise(seed: int, size: int) -> Iterator[bytes]:
    """So many bytes in pieces, no two of which are the same."""
    piece = Random(seed).randbytes(PIECE - 8)
    for number in range(size // PIECE):
        yield number.to_bytes(8, "little") + piece


def digest(seed: int, size: int) -> str:
    said = sha256()
    for piece in noise(seed, size):
        said.update(piece)
    return said.hexdigest()


def digest_of(connection: socket.socket) -> str:
    """What comes until the other end has no more."""
    heard = sha256()
    while data := connection.recv(PIECE):
        heard.update(data)
    return heard.hexdigest()


def say(connection: socket.socket, seed: int, size: int) -> None:
    """Send this much, and nothing more; return when the other end has heard all of it."""
    for data in noise(seed, size):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
    assert not connection.recv(1)


Half = Callable[[Domain, int], Awaitable[object]]


def two(name: str, dom0: Half, guest: Half, size: int) -> Scenario:
    scenario = Scenario(name)
    scenario.domain("dom0")(partial(dom0, size=size))
    scenario.domain("guest")(partial(guest, size=size))
    return scenario


# Our back end on a TAP device, Linux's front end


async def serve_a_tap(xen: Domain, size: int) -> dict[str, object]:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    device = Device("vif", 0, guest, 0, served_as="pyvif")
    load("tun")
    figures = Statistics()
    async with asyncio.timeout(PATIENCE):
        with Tap("tap0") as tap:
            command("ip", "address", "add", f"{DOM0}/24", "dev", tap.name)
            command("ip", "link", "set", tap.name, "mtu", MTU, "up")
            await plug(xen, device, front={"mac": MAC, "handle": 0}, back={"mac": MAC, "handle": 0})
            async with net.serve(xen, device, tap, statistics=figures) as end:
                await end.connected(within=30)
                with socket.create_server((DOM0, PORT)) as server:
                    await xen.store.write(f"{home}/listening", 1)
                    heard = await asyncio.to_thread(serve_three, server, size)
                times = await xen.store.wait_for(f"{home}/times")
                await unplug(xen, device)
    assert heard == [digest(1, size // SMALLER), digest(2, size)]
    assert figures.bad == figures.lost == 0, figures
    return {"seconds": times, "frames": str(figures)}


def serve_three(server: socket.socket, size: int) -> list[str]:
    """Hear two clients out, and speak to the next; give what the two said."""
    heard = []
    for _ in range(2):
        connection, _ = server.accept()
        with connection:
            heard.append(digest_of(connection))
    connection, _ = server.accept()
    with connection:
        say(connection, 3, size)
    return heard


async def use_a_linux_front(xen: Domain, size: int) -> str:
    times = [xen.loop.time()]

    def call(use: Callable[[socket.socket], None]) -> None:
        with socket.create_connection((DOM0, PORT), timeout=60) as connection:
            use(connection)
        times.append(xen.loop.time())

    def listen(connection: socket.socket) -> None:
        assert digest_of(connection) == digest(3, size)

    async with asyncio.timeout(PATIENCE):
        load("xen-netfront")
        try:
            await until(lambda: there("eth0"))
            command("ip", "address", "add", f"{GUEST}/24", "dev", "eth0")
            command("ip", "link", "set", "eth0", "up")
            await xen.store.wait_for("data/listening")
            said = command("ping", "-c", 3, "-i", "0.2", "-W", 5, DOM0)
            assert " 0% packet loss" in said, said
            call(lambda connection: say(connection, 1, size // SMALLER))
            command("ip", "link", "set", "eth0", "mtu", MTU)
            call(lambda connection: say(connection, 2, size))
            call(listen)
            taken = [f"{end - start:.1f}" for start, end in pairwise(times)]
            await xen.store.write("data/times", " ".join(taken))
            await until(lambda: not there("eth0"))
        finally:
            await until(lambda: unload("xen-netfront"))
    return said


front = two("netback_on_a_tap_serves_linux_s_netfront", serve_a_tap, use_a_linux_front, MUCH)
front_long = two(
    "long: netback_on_a_tap_serves_linux_s_netfront", serve_a_tap, use_a_linux_front, MUCH_LONG
)


# Our front end in a guest's user space, Linux's back end


SMALL, LARGE = 1400, 8000
"""Bytes of data in a datagram: in one page, and in two."""
SEQUENCE = 8


async def plug_into_linux(xen: Domain, size: int) -> dict[str, object]:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    device = Device("vif", 0, guest, 0)
    interface = f"vif{guest}.0"
    load("xen-netback")
    async with asyncio.timeout(PATIENCE):
        await plug(
            xen,
            device,
            front={"mac": MAC, "handle": 0, "mtu": MTU},
            # what else the toolstack says, and at once what its script would
            back={"mac": MAC, "handle": 0, "script": "none", "hotplug-status": "connected"},
        )
        await until(lambda: there(interface))
        command("ip", "address", "add", f"{DOM0}/24", "dev", interface)
        command("ip", "link", "set", interface, "mtu", MTU, "up")
        await xen.store.wait_for(f"{home}/answering")
        small = await patiently("ping", "-c", 3, "-i", "0.2", "-W", 5, GUEST)
        large = await patiently("ping", "-c", 3, "-i", "0.2", "-W", 5, "-s", LARGE, GUEST)
        start = xen.loop.time()
        sent = await asyncio.to_thread(flood, size)
        counted = await xen.store.wait_for(f"{home}/counted")
        seconds = xen.loop.time() - start
        await unplug(xen, device)
    for said in (small, large):
        assert " 0% packet loss" in said, said
    assert counted == str(sent)
    return {"datagrams": sent, "seconds": seconds, "pings": small + large}


def flood(size: int) -> int:
    """Send so many bytes of data in numbered datagrams, small and large; give how many."""
    number, left = 0, size
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        # so little that the kernel makes this wait instead of dropping what it cannot queue
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGE)
        connection.connect((GUEST, PORT))
        while left > 0:
            piece = max(min(left, LARGE if number % 2 else SMALL), SEQUENCE)
            connection.send(datagram(number, piece))
            number += 1
            left -= piece
        connection.send(b"done")
    return number


PATTERN = bytes(range(251)) * (LARGE // 251 + 1)


def datagram(number: int, size: int) -> bytes:
    return pack("!Q", number) + PATTERN[: size - SEQUENCE]


async def answer_in_user_space(xen: Domain, size: int) -> dict[str, object]:
    own = socket.inet_aton(GUEST)
    async with asyncio.timeout(PATIENCE):
        device = await front_device(xen, "vif", 0)
        async with net.open(xen, device, within=30) as nic:
            assert nic.mtu == MTU
            await xen.store.write("data/answering", 1)
            counted = 0
            while True:
                asked = Ethernet(await nic.receive())
                if reply := answer(asked, nic.mac, own):
                    await nic.send(reply)
                elif data := udp_data(asked, own):
                    if data == b"done":
                        break
                    assert data == datagram(counted, len(data)), f"datagram {counted} is malformed"
                    counted += 1
            await xen.store.write("data/counted", counted)
            assert nic.statistics().bad == nic.statistics().lost == 0, nic.statistics()
            with suppress(NicClosed):
                await nic.receive()  # until it is unplugged
    return {"figures": str(nic.statistics())}


def answer(asked: Ethernet, mac: bytes, own: bytes) -> bytes | None:
    """The reply to a question for an address, or to a ping."""
    inner = asked.data
    if isinstance(inner, ARP) and inner.op == ARP_OP_REQUEST and inner.tpa == own:
        inner = ARP(op=ARP_OP_REPLY, sha=mac, spa=own, tha=inner.sha, tpa=inner.spa)
    elif isinstance(inner, IP) and inner.dst == own and is_ping(inner.data):
        inner.src, inner.dst = inner.dst, inner.src
        inner.data.type, inner.data.sum = ICMP_ECHOREPLY, 0
    else:
        return None
    return bytes(Ethernet(src=mac, dst=asked.src, type=asked.type, data=inner))


def is_ping(message: object) -> bool:
    return isinstance(message, ICMP) and message.type == ICMP_ECHO


def udp_data(asked: Ethernet, own: bytes) -> bytes:
    """What a datagram for this address carries; empty if it is none. It has to be whole."""
    inner = asked.data
    if not isinstance(inner, IP) or inner.dst != own or not isinstance(inner.data, UDP):
        return b""
    datagram = inner.data
    said, datagram.sum, inner.sum = datagram.sum, 0, 0
    bytes(inner)
    assert datagram.sum == said, "its checksum is not complete"
    return bytes(datagram.data)


back = two(
    "netfront_in_user_space_is_served_by_linux_s_netback",
    plug_into_linux,
    answer_in_user_space,
    MUCH,
)
back_long = two(
    "long: netfront_in_user_space_is_served_by_linux_s_netback",
    plug_into_linux,
    answer_in_user_space,
    MUCH_LONG,
)
