"""What lies in shared pages, against Xen's public headers as a C compiler lays them out for 64 bits
and for 32.

Nothing is run and no C library is needed, so any compiler for x86-64 does for both.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from struct import Struct

import pytest
from support.debian import unpacked
from support.needs import need_compiler

from activations.abi import blkif, console, netif, ring, vchan, xs_wire
from activations.sring import FrontRing

pytestmark = pytest.mark.once

WHAT = "Xen's public headers"
BITS = {blkif.X86_64: "-m64", blkif.X86_32: "-m32"}
"""What has the compiler lay out as front ends of this layout do."""
EITHER = pytest.mark.parametrize("layout", BITS, ids=lambda layout: layout.protocol)
PAGE = 4096

PREAMBLE = """
#include <stddef.h>
#include <stdint.h>
#include <xen/xen.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/libxenvchan.h>
#include <xen/io/netif.h>
#include <xen/io/protocols.h>
#include <xen/io/xs_wire.h>
"""

Ask = Callable[[blkif.Layout, Sequence[str]], list[int]]
"""What the compiler takes each constant expression for, in the words of one layout's programs."""


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    need_compiler(WHAT)
    folder = tmp_path_factory.mktemp("headers")
    root = unpacked(WHAT, ["libxen-dev"])
    # libxenvchan.h includes a header of the C library, and needs nothing of it.
    (folder / "sys").mkdir()
    (folder / "sys/types.h").touch()

    def ask(layout: blkif.Layout, expressions: Sequence[str]) -> list[int]:
        source = folder / "ask.c"
        answers = ",".join(f"({expression})" for expression in expressions)
        source.write_text(f"{PREAMBLE}const unsigned int answers[] = {{{answers}, 1}};\n")
        places = [f"-I{root}/usr/include", f"-I{folder}"]
        flags = ["-ffreestanding", *places, BITS[layout], "-S", "-o", "-"]
        command = ["cc", *flags, source]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return _words(done.stdout)[:-1]

    return ask


def _words(assembly: str) -> list[int]:
    """The u32s behind the label `answers`."""
    words: list[int] = []
    for line in assembly.partition("answers:\n")[2].splitlines():
        match re.findall(r"[.\w]+", line)[:2]:
            case [".long", value]:
                words.append(int(value))
            case [".zero", size]:
                words += [0] * (int(size) // 4)
            case _:
                break
    return words


def lie_alike(ask: Ask, layout: blkif.Layout, struct: str, fields: str, ours: Struct) -> None:
    """Bytes put where the compiler puts the fields come out of `ours` as these fields."""
    names = fields.split()
    offsets = ask(layout, [f"offsetof({struct}, {name})" for name in names])
    sizes = ask(layout, [f"sizeof((({struct} *)0)->{name})" for name in names])
    raw, values = bytearray(ours.size), []
    for number, (offset, size) in enumerate(zip(offsets, sizes, strict=True), 1):
        values.append(bytes([number]) * size)
        raw[offset : offset + size] = values[-1]
    assert len(raw) == ours.size, "a field lies beyond our end"
    found = ours.unpack(raw)
    for name, value, field in zip(names, values, found, strict=True):
        assert (name, field) == (name, value if isinstance(field, bytes) else _integer(value))


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "little")


GREFS = " ".join(f"indirect_grefs[{number}]" for number in range(8))
BLOCK: dict[str, tuple[str, Callable[[blkif.Layout], Struct]]] = {
    "struct blkif_request": (
        "operation nr_segments handle id sector_number",
        lambda layout: layout.request,
    ),
    "struct blkif_request_discard": (
        "operation flag handle id sector_number nr_sectors",
        lambda layout: layout.discard,
    ),
    "struct blkif_request_indirect": (
        f"operation indirect_op nr_segments id sector_number handle {GREFS}",
        lambda layout: layout.indirect,
    ),
    "struct blkif_request_segment": ("gref first_sect last_sect", lambda _: blkif.SEGMENT),
    "struct blkif_response": ("id operation status", lambda layout: layout.response),
}


@EITHER
@pytest.mark.parametrize("struct", BLOCK)
def test_a_block_request_is_laid_out_as_its_front_ends_compiler_has_it(
    ask: Ask, struct: str, layout: blkif.Layout
) -> None:
    fields, ours = BLOCK[struct]
    lie_alike(ask, layout, struct, fields, ours(layout))
    end = f"offsetof({struct}, seg)" if struct.endswith("request") else f"sizeof({struct})"
    assert ask(layout, [end]) == [ours(layout).size]


@EITHER
def test_any_block_requests_id_lies_at_the_same_place(ask: Ask, layout: blkif.Layout) -> None:
    requests = [struct for struct, (fields, _) in BLOCK.items() if " id " in fields]
    assert len(requests) == 3
    for struct in requests:
        lie_alike(ask, layout, struct, "id", layout.id)


@EITHER
def test_as_many_block_requests_fit_a_ring_as_xens_macro_says(
    ask: Ask, layout: blkif.Layout
) -> None:
    orders = range(blkif.MAX_RING_PAGE_ORDER + 1)
    said = ask(layout, [f"__CONST_RING_SIZE(blkif, {PAGE << order})" for order in orders])
    assert ask(layout, ["sizeof(union blkif_sring_entry)"]) == [layout.entry_size]
    for order, slots in zip(orders, said, strict=True):
        assert FrontRing(memoryview(bytearray(PAGE << order)), layout.entry_size).size == slots


@EITHER
def test_a_layout_has_the_name_that_its_front_ends_take_for_native(
    ask: Ask, layout: blkif.Layout
) -> None:
    names = ["XEN_IO_PROTO_ABI_NATIVE", *(f"XEN_IO_PROTO_ABI_X86_{bits}" for bits in (64, 32))]
    said = ask(layout, [f'!__builtin_strcmp({name}, "{layout.protocol}")' for name in names])
    assert said == [1, layout is blkif.X86_64, layout is blkif.X86_32]


# What is the same for all

NET = {
    "struct netif_tx_request": ("gref offset flags id size", netif.TX_REQUEST),
    "struct netif_tx_response": ("id status", netif.TX_RESPONSE),
    "struct netif_rx_request": ("id gref", netif.RX_REQUEST),
    "struct netif_rx_response": ("id offset flags status", netif.RX_RESPONSE),
    "struct netif_extra_info": ("type flags u", netif.EXTRA_INFO),
}
OTHERS = {
    "offsetof(struct blkif_sring, req_prod)": ring.REQ_PROD,
    "offsetof(struct blkif_sring, req_event)": ring.REQ_EVENT,
    "offsetof(struct blkif_sring, rsp_prod)": ring.RSP_PROD,
    "offsetof(struct blkif_sring, rsp_event)": ring.RSP_EVENT,
    "offsetof(struct blkif_sring, ring)": ring.ENTRIES,
    "offsetof(struct netif_tx_sring, ring)": ring.ENTRIES,
    "sizeof(struct blkif_request_segment)": blkif.SEGMENT.size,
    "sizeof(union netif_tx_sring_entry)": netif.TX_ENTRY_SIZE,
    "sizeof(union netif_rx_sring_entry)": netif.RX_ENTRY_SIZE,
    "offsetof(struct xencons_interface, in)": console.IN_AT,
    "sizeof(((struct xencons_interface *)0)->in)": console.IN_SIZE,
    "offsetof(struct xencons_interface, out)": console.OUT_AT,
    "sizeof(((struct xencons_interface *)0)->out)": console.OUT_SIZE,
    "offsetof(struct xencons_interface, in_cons)": console.IN_CONS,
    "offsetof(struct xencons_interface, in_prod)": console.IN_PROD,
    "offsetof(struct xencons_interface, out_cons)": console.OUT_CONS,
    "offsetof(struct xencons_interface, out_prod)": console.OUT_PROD,
    "offsetof(struct vchan_interface, left.cons)": vchan.LEFT_CONS,
    "offsetof(struct vchan_interface, left.prod)": vchan.LEFT_PROD,
    "offsetof(struct vchan_interface, right.cons)": vchan.RIGHT_CONS,
    "offsetof(struct vchan_interface, right.prod)": vchan.RIGHT_PROD,
    "offsetof(struct vchan_interface, left_order)": vchan.ORDERS_AT,
    "offsetof(struct vchan_interface, cli_live)": vchan.CLI_LIVE,
    "offsetof(struct vchan_interface, srv_live)": vchan.SRV_LIVE,
    "offsetof(struct vchan_interface, cli_notify)": vchan.CLI_NOTIFY,
    "offsetof(struct vchan_interface, srv_notify)": vchan.SRV_NOTIFY,
    "offsetof(struct vchan_interface, grants)": vchan.GRANTS_AT,
    "XENSTORE_RING_SIZE": xs_wire.RING_SIZE,
    "offsetof(struct xenstore_domain_interface, req)": xs_wire.RING_REQ,
    "offsetof(struct xenstore_domain_interface, rsp)": xs_wire.RING_RSP,
    "offsetof(struct xenstore_domain_interface, req_cons)": xs_wire.REQ_CONS,
    "offsetof(struct xenstore_domain_interface, req_prod)": xs_wire.REQ_PROD,
    "offsetof(struct xenstore_domain_interface, rsp_cons)": xs_wire.RSP_CONS,
    "offsetof(struct xenstore_domain_interface, rsp_prod)": xs_wire.RSP_PROD,
    "offsetof(struct xenstore_domain_interface, server_features)": xs_wire.SERVER_FEATURES,
    "offsetof(struct xenstore_domain_interface, connection)": xs_wire.CONNECTION,
    "offsetof(struct xenstore_domain_interface, error)": xs_wire.ERROR,
    "sizeof(struct xenstore_domain_interface)": xs_wire.EVTCHN_PORT,  # which is behind 4.17's end
}


@EITHER
@pytest.mark.parametrize("struct", NET)
def test_what_is_in_a_network_devices_rings_does_not_depend_on_the_word_size(
    ask: Ask, struct: str, layout: blkif.Layout
) -> None:
    fields, ours = NET[struct]
    lie_alike(ask, layout, struct, fields, ours)
    assert ask(layout, [f"sizeof({struct})"]) == [ours.size]


@EITHER
def test_nor_do_the_rings_of_consoles_vchans_and_xenstore(ask: Ask, layout: blkif.Layout) -> None:
    assert dict(zip(OTHERS, ask(layout, [*OTHERS]), strict=True)) == OTHERS
