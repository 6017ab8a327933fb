"""The guide's pages: what they show of Python is run, each block in a world that has what it names.

A block is no whole program there. Its world is the rest of one, in which it stands as BLOCK.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
from support.pages import PAGES, all_blocks, named
from support.places import DOCS

from activations import LeakWarning
from xen_sim import Machine

pytestmark = pytest.mark.once

TWO_DOMAINS = "{BLOCK}"
"""Of a block that defines `dom0` and `guest`."""

EVENTS = """
from contextlib import suppress
from activations import PROGRAM_START

async def dom0(xen):
    remote_domid, number = 0, xen.events.alloc_unbound(0).number
    port = xen.events.alloc_unbound(0)
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            {BLOCK}

async def guest(xen):
    pass
"""

NBD = 'block.NbdSource("nbd://server/export")'
"""A disk that has a server on the network, and so the wall clock."""

SERVED = """
import random, time
from contextlib import nullcontext
from activations.drivers import block, console
from activations.drivers.block import ObjectDisk, VolatileDisk
from activations.xenbus import Device, front_device, plug

async def dom0(xen):
    guest = await xen.find("guest")
    device = Device("vbd", 51712, guest, 0)
    await plug(xen, device)
    {BLOCK}

async def guest(xen):
    await asyncio.sleep(60)
"""

ONE_FILE = """
with open("guest.img", "wb") as image:
    image.truncate(1 << 16)

{BLOCK}
"""

GRANTED = """
from activations import Foreign, Segment

async def dom0(xen):
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    refs = [int(await xen.store.wait_for(f"{home}/ref"))]
    dom0, ref, buffer = guest, refs[0], bytearray(1024)
    {BLOCK}
    await xen.store.write(f"{home}/over", "")

async def guest(xen):
    with xen.grants.share(0) as page:
        await xen.store.write("data/ref", page.refs[0])
        await xen.store.wait_for("data/over")
        assert page.memory[0] == 1
"""

A_NETWORK = """
class Echo(asyncio.Queue):
    send, receive = asyncio.Queue.put, asyncio.Queue.get

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def receive_nowait(self):
        return None if self.empty() else self.get_nowait()

frame = bytes(60)
{BLOCK}
"""

HVC0 = """
{BLOCK}

async def guest(xen):
    async with console.open(xen, await front_device(xen, "console", 1)) as tty:
        await tty.send(b"booted")
"""

DEVICES = """
from activations.xenbus import BackDriver, FrontDriver

class Driver:
    async def serve(self):
        await asyncio.sleep(3600)

    async def disconnect(self):
        pass

class Back(Driver, BackDriver):
    async def offer(self):
        return {}

    async def connect(self, front):
        return {}

class Front(Driver, FrontDriver):
    async def publish(self, back):
        return {}

    async def connect(self, back):
        pass

async def dom0(xen):
    driver, guest = Back(), await xen.find("guest")
    {BLOCK}

async def guest(xen):
    from activations.xenbus import FrontEnd, front_device
    driver, XVDA = Front(), 51712
    {SECOND}
"""

A_LAB = """
from unittest.mock import create_autospec, patch
import xen_lab

made = create_autospec(xen_lab.Lab)
made.return_value.__enter__.return_value.shell.return_value = (0, b"")
scenario, observer, binary = None, None, b""
with patch("xen_lab.Lab", made):
    {BLOCK}
assert made.return_value.__enter__.return_value.fetch.called
"""

A_HOOK = """
import activations
{BLOCK}
loop = pytest_asyncio_loop_factories(None, None)["xen"]()
loop.close()
"""

SERVE_FIRST = "console.serve_first(xen, guest)"
SERVE_ANOTHER = "console.serve(xen, device)"


def another_console(text: str) -> str:
    """A guest has a first console only where a toolstack has made it one."""
    assert SERVE_FIRST in text
    text = text.replace(SERVE_FIRST, SERVE_ANOTHER)
    made = """
    from activations.xenbus import Device, plug
    device = Device("console", 1, guest, 0)
    await plug(xen, device)
"""
    head, line, rest = text.partition('    guest = await xen.find("guest")\n')
    return f"from activations.xenbus import front_device\n{head}{line}{made}{rest}"


def as_it_is(text: str) -> str:
    return text


Change = Callable[[str], str]
WORLDS: dict[str, list[tuple[str, Change]]] = {
    "block.md": [
        (ONE_FILE, as_it_is),
        (SERVED, as_it_is),
        (SERVED, lambda text: text.replace(NBD, "nullcontext(block.MemoryDisk(4096))")),
        (SERVED, as_it_is),
    ],
    "console.md": [(HVC0, another_console), (SERVED, as_it_is)],
    "events.md": [
        (EVENTS, lambda text: text.replace("bind_virq(number)", "bind_virq(2)")),
        (EVENTS, as_it_is),
    ],
    "grants.md": [(GRANTED, as_it_is)],
    "lab.md": [(A_LAB, as_it_is)],
    "network.md": [(A_NETWORK, lambda text: text.replace('net.Tap("tap0")', "Echo()"))],
    "pytest.md": [(A_HOOK, as_it_is)],
    "vchan.md": [(TWO_DOMAINS, as_it_is)],
    "xenbus.md": [(DEVICES, lambda text: text.replace("end: ...", "end: await end.connected()"))],
}
ELSEWHERE = {"explorer.md", "simulator.md", "views.md"}
"""`test_explorer_page.py` and `test_readme.py` run what these show."""


def untitled(page: Path) -> list[str]:
    return [
        block.text for block in all_blocks(page) if block.language == "python" and not block.file
    ]


def test_each_block_of_python_on_any_page_has_a_world_or_is_a_file() -> None:
    shown = {named(page): len(untitled(page)) for page in PAGES if untitled(page)}
    worlds = {page: len(of) for page, of in WORLDS.items()}
    assert {page: count for page, count in shown.items() if page not in ELSEWHERE} == worlds


def built(world: str, text: str) -> str:
    """The block in its world; of two parts, where a world has room for two."""
    first, second = text.rsplit("\n\n", 1) if "{SECOND}" in world else (text, "")
    lines = []
    for line in world.splitlines():
        place = re.fullmatch(r"( *)\{(BLOCK|SECOND)\}", line)
        part = {"BLOCK": first, "SECOND": second}[place[2]] if place else line
        lines.append(indent(part, place[1]) if place else line)
    return "import asyncio\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page, of in WORLDS.items() for number in range(len(of))],
)
def test_what_the_guide_shows_runs(
    page: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world, change = WORLDS[page][number]
    names: dict[str, object] = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)  # what a page binds it need not give back
        exec(built(world, change(untitled(DOCS / page)[number])), names)
        if "dom0" in names:
            machine = Machine()
            machine.boot("dom0", names["dom0"])  # type: ignore[arg-type]
            machine.boot("guest", names["guest"])  # type: ignore[arg-type]
            machine.run()
