"""Programs: what is done to a World, step by step, in a language that knows no implementation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from activations.abi.xs_wire import HEADER, PAYLOAD_MAX, MessageType

from .world import Limits


class Kind(IntEnum):
    """What a step is. `who` is a client, or a domid where the step is a domain's."""

    CONNECT = 0
    ASK = 1
    """data: requests, whole ones."""
    LEAVE = 2
    """data: what the client said at last."""
    TAKE = 3
    CREATE = 4
    SHUT_DOWN = 5
    DESTROY = 6
    PUT = 7
    """data: what the guest writes into its ring of requests, with a kick whenever it is full and at
    the end; what xenstored makes no room for is lost."""
    GET = 8
    """The guest takes as many bytes as `number` out of its ring of replies; then a kick."""
    POKE = 9
    """The guest writes `number`, u32, over the index at the offset its data is; then a kick."""


OF_A_GUEST = {Kind.PUT, Kind.GET, Kind.POKE}


class Step(NamedTuple):
    kind: Kind
    who: int = 0
    number: int = 0
    data: bytes = b""


class Program(NamedTuple):
    limits: Limits
    steps: Sequence[Step]


def c_number(text: bytes) -> int:
    """The number that C's atoi finds, as an unsigned one of 32 bits."""
    found = re.match(rb"[ \t-\r]*([+-]?[0-9]+)", text)
    return max(-(2**63), min(int(found[1]), 2**63 - 1)) & 0xFFFF_FFFF if found else 0


def read(step: Step) -> str:
    """One line: client 1 asks WRITE '/a\\0v'."""
    kind, who, number, data = step
    match kind:
        case Kind.ASK | Kind.LEAVE | Kind.PUT:
            name = "domain" if kind is Kind.PUT else "client"
            return f"{name} {who} {kind.name.lower()} {', '.join(messages(data)) or 'nothing'}"
        case Kind.CONNECT | Kind.TAKE:
            return f"client {who} {kind.name.lower()}"
        case Kind.POKE:
            return f"domain {who} poke {int.from_bytes(data)}: {number:#x}"
        case _:
            return f"domain {who} {kind.name.lower()} {number or ''}".rstrip()


def messages(data: bytes) -> Iterator[str]:
    """The messages in these bytes, in words."""
    while len(data) >= HEADER.size:
        kind, request, transaction, length = HEADER.unpack_from(data)
        payload, data = data[HEADER.size :][:length], data[HEADER.size + length :]
        name = MessageType(kind).name if kind in set(MessageType) else f"type {kind}"
        where = f" in {transaction}" if transaction else ""
        short = f" (of {length} bytes)" if len(payload) < length <= PAYLOAD_MAX else ""
        long = f" (says {length} bytes)" if length > PAYLOAD_MAX else ""
        yield f"{name}{where} {_brief(payload)}{short}{long} #{request}"
    if data:
        yield f"a piece {_brief(data)}"


def _brief(data: bytes) -> str:
    text = repr(data)[1:].replace("\\x00", "\\0")
    return text if len(text) <= 80 else f"{text[:60]}... of {len(data)} bytes"
