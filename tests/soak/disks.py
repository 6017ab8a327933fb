"""Disks: what a back end is asked, and what a front end is answered."""

from __future__ import annotations

from random import Random

from support.block_pages import World

from activations.abi.blkif import LAYOUTS, Op
from activations.drivers.block.names import devid_of, name_of, place_of
from activations.drivers.block.protocol import (
    BlockError,
    Discard,
    Indirect,
    check_range,
    decode,
    runs_in,
)
from activations.ring import RingError
from activations.sring import RingFull

from .noise import number, word
from .noise import text as said
from .pages import PAGE


def block_request(random: Random) -> None:
    """As a back end takes one, to the last sector of it."""
    layout = random.choice([*LAYOUTS.values()])
    raw = bytearray(random.randbytes(layout.entry_size))
    if random.random() < 0.9:
        raw[0], raw[1] = random.randrange(8), random.randrange(14)
    if random.random() < 0.5:
        for at in range(layout.request.size, layout.entry_size - 8, 8):
            raw[at + 4 : at + 6] = bytes((random.randrange(9), random.randrange(9)))
    request = decode(layout, bytes(raw), max_indirect=256)
    if isinstance(request, Discard):
        check_range(request, request.sectors, disk_sectors=4096)
        assert request.sector + request.sectors <= 4096
        return
    if isinstance(request, Indirect):
        segments = random.randbytes(PAGE * len(request.refs))
    else:
        segments = request.segments
    if segments:
        runs = runs_in(segments, request)
        assert all(each.offset + each.length <= PAGE for each in runs.segments)
        check_range(request, runs.sectors, disk_sectors=4096)


def block_answers(random: Random) -> int:
    """A back end that answers anything: no page of the front end's is lost."""
    world = World(pages=32)
    memory = world.back.rings[0]._entries.obj
    asked = [world.read(number * 8, 8) for number in range(8)]
    world.back.take()
    fed = 0
    try:
        for _ in range(8):
            fed += 1
            right = random.random() < 0.6
            id = world.back.taken[0].id if right and world.back.taken else number(random)
            op = random.choice((Op.READ, Op.READ, random.randrange(256)))
            if random.random() < 0.1:
                memory[8:12] = word(random)  # how far the answers are
            else:
                world.back.rings[0].put(
                    LAYOUTS["x86_64-abi"].response.pack(id, op, random.choice((0, -1, -2, 99)))
                )
                world.back.rings[0].push()
                del world.back.taken[:1]
            world.hear()
    except (BlockError, RingError, RingFull):
        pass
    world.part()
    world.connect()
    world.requests.fill()
    world.finish()
    assert all(len(each.ended) == 1 for each in asked)
    assert world.pool.free == world.pool.size
    return fed


def block_names(random: Random) -> None:
    devid = number(random)
    place_of(devid)
    name_of(devid)
    devid_of("xvd" + said(random, "a", "zz", "a15", "aaaaaa", "b300"))
