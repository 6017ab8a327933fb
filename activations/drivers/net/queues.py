"""The keys of a network device: its address, where its rings are, and by which ports to ring.

One queue's keys lie in the front end's folder, several queues' in `queue-0/` and on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from activations.abi import netif as abi
from activations.xenbus import BadKey, Keys, Written

_MAC = re.compile("[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"


class QueueKeys(NamedTuple):
    """References of a queue's two rings, and the ports of the front end's that go with them:
    twice the same where one event channel serves both."""

    tx_ring: int
    rx_ring: int
    tx_port: int
    rx_port: int


def read(front: Keys, most: int) -> list[QueueKeys]:
    """What a front end says of its queues, `most` of them at most. Raises `MissingKey` and
    `BadKey`."""
    count = front.integer(abi.NUM_QUEUES, 1, within=range(1, most + 1))
    if count == 1:
        return [_read_one(front, "")]
    queues = [_read_one(front, f"queue-{number}/") for number in range(count)]
    for named in (
        [queue.tx_ring for queue in queues] + [queue.rx_ring for queue in queues],
        [queue.tx_port for queue in queues],
    ):
        if len(set(named)) < len(named):
            raise BadKey(f"{front.owner} names a ring or a port for two queues ({front.path})")
    return queues


def written(queues: Sequence[QueueKeys]) -> Written:
    """The keys that say so."""
    if len(queues) == 1:
        return _write_one(queues[0], "")
    keys: dict[str, str | int] = {abi.NUM_QUEUES: len(queues)}
    for number, queue in enumerate(queues):
        keys |= _write_one(queue, f"queue-{number}/")
    return keys


def read_mac(keys: Keys) -> bytes:
    """The address, as the toolstack wrote it: six bytes. Raises `MissingKey` and `BadKey`."""
    said = keys.text(abi.MAC)
    if not _MAC.fullmatch(said):
        raise BadKey(
            f"{keys.owner} has {abi.MAC} = {said[:40]!r}, which must be six bytes, "
            f"as 00:16:3e:01:02:03 ({keys.path}/{abi.MAC})"
        )
    return bytes.fromhex(said.replace(":", ""))


def flow(frame: bytes | bytearray) -> int:
    """A number that is the same for all frames which must not overtake each other: those between
    the same two addresses."""
    kind = frame[12:14]
    if kind == _IPV4:
        return crc32(frame[26:34])
    if kind == _IPV6:
        return crc32(frame[22:54])
    return crc32(frame[:12])


def _read_one(front: Keys, folder: str) -> QueueKeys:
    tx_ring = front.integer(folder + abi.TX_RING_REF)
    rx_ring = front.integer(folder + abi.RX_RING_REF)
    if folder + abi.EVENT_CHANNEL_TX in front:
        tx_port = front.integer(folder + abi.EVENT_CHANNEL_TX)
        rx_port = front.integer(folder + abi.EVENT_CHANNEL_RX)
    else:
        tx_port = rx_port = front.integer(folder + abi.EVENT_CHANNEL)
    return QueueKeys(tx_ring, rx_ring, tx_port, rx_port)


def _write_one(queue: QueueKeys, folder: str) -> dict[str, str | int]:
    keys: dict[str, str | int] = {
        folder + abi.TX_RING_REF: queue.tx_ring,
        folder + abi.RX_RING_REF: queue.rx_ring,
    }
    if queue.tx_port == queue.rx_port:
        return keys | {folder + abi.EVENT_CHANNEL: queue.tx_port}
    return keys | {
        folder + abi.EVENT_CHANNEL_TX: queue.tx_port,
        folder + abi.EVENT_CHANNEL_RX: queue.rx_port,
    }
