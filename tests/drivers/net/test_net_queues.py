"""The keys of a network device: what one end writes the other reads, and nonsense is named."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations.drivers.net.queues import QueueKeys, flow, read, read_mac, written
from activations.xenbus import BadKey, Keys, MissingKey, XenbusError

U32 = st.integers(0, (1 << 32) - 1)
QUEUES = st.lists(
    st.builds(QueueKeys, U32, U32, U32, U32),
    min_size=1,
    max_size=8,
    unique_by=(lambda queue: queue.tx_ring, lambda queue: queue.tx_port),
).filter(
    lambda queues: len({ref for queue in queues for ref in queue[:2]}) == 2 * len(queues)
)  # fmt: skip
PATH = "/local/domain/1/device/vif/0"


def keys(nodes: dict[str, str]) -> Keys:
    return Keys("the front end", PATH, nodes)


def stored(queues: list[QueueKeys]) -> dict[str, str]:
    return {name: str(value) for name, value in written(queues).items()}


@given(QUEUES)
def test_what_a_front_end_writes_its_back_end_reads(queues: list[QueueKeys]) -> None:
    assert read(keys(stored(queues)), 8) == queues


def test_one_queue_s_keys_lie_in_the_folder_itself_and_several_in_folders_of_their_own() -> None:
    one, other = QueueKeys(8, 9, 3, 3), QueueKeys(10, 11, 4, 5)
    assert written([one]) == {"tx-ring-ref": 8, "rx-ring-ref": 9, "event-channel": 3}
    assert written([one, other]) == {
        "multi-queue-num-queues": 2,
        "queue-0/tx-ring-ref": 8,
        "queue-0/rx-ring-ref": 9,
        "queue-0/event-channel": 3,
        "queue-1/tx-ring-ref": 10,
        "queue-1/rx-ring-ref": 11,
        "queue-1/event-channel-tx": 4,
        "queue-1/event-channel-rx": 5,
    }


NONSENSE = ["", "x", "-1", "+1", "4294967296", "9" * 500, "1.5", "0x8", "\uff11", "1 2"]


@pytest.mark.parametrize("name", list(stored([QueueKeys(8, 9, 3, 4)])))
@pytest.mark.parametrize("value", NONSENSE)
def test_a_key_that_is_no_number_is_named(name: str, value: str) -> None:
    nodes = stored([QueueKeys(8, 9, 3, 4)]) | {name: value}
    with pytest.raises(BadKey, match=f"{name} = "):
        read(keys(nodes), 1)


@pytest.mark.parametrize("name", list(stored([QueueKeys(8, 9, 3, 3), QueueKeys(1, 2, 4, 5)])))
def test_a_key_that_is_missing_is_named(name: str) -> None:
    nodes = stored([QueueKeys(8, 9, 3, 3), QueueKeys(1, 2, 4, 5)])
    del nodes[name]
    # without the number of queues one is meant, without its own channels a queue has one
    missing = {"multi-queue-num-queues": "tx-ring-ref"}.get(name, name.removesuffix("-tx"))
    with pytest.raises(MissingKey, match=f"no key {missing} "):
        read(keys(nodes), 8)


@pytest.mark.parametrize("count", ["0", "3", "65536"])
def test_more_queues_than_offered_or_none_are_refused(count: str) -> None:
    with pytest.raises(BadKey, match="multi-queue-num-queues"):
        read(keys({"multi-queue-num-queues": count}), 2)


@pytest.mark.parametrize(
    "other", [QueueKeys(8, 11, 4, 4), QueueKeys(10, 9, 4, 4), QueueKeys(10, 11, 3, 4)]
)
def test_two_queues_cannot_have_the_same_ring_or_port(other: QueueKeys) -> None:
    with pytest.raises(BadKey, match="for two queues"):
        read(keys(stored([QueueKeys(8, 9, 3, 3), other])), 2)


NAMES = st.sampled_from(list(stored([QueueKeys(8, 9, 3, 4)] * 2) | stored([QueueKeys(8, 9, 3, 3)])))


@given(st.dictionaries(NAMES, st.text(max_size=12) | U32.map(str)))
def test_any_keys_give_queues_or_an_error_by_name(nodes: dict[str, str]) -> None:
    with suppress(XenbusError):
        queues = read(keys(nodes), 4)
        assert 1 <= len(queues) <= 4
        assert all(0 <= number < 1 << 32 for queue in queues for number in queue)


def test_an_address_is_six_bytes_with_colons() -> None:
    assert read_mac(keys({"mac": "00:16:3E:00:0a:ff"})) == bytes.fromhex("00163e000aff")
    with pytest.raises(MissingKey, match="no key mac"):
        read_mac(keys({}))


@pytest.mark.parametrize(
    "said",
    ["", "00:16:3e:00:00", "00:16:3e:00:00:00:00", "00:16:3e:00:00:zz", "00:16:3e:00:00:-1",
     "00:16:3e:00:00:+1", "00:16:3e:00:00: 1", "00-16-3e-00-00-01", "00:16:3e:00:00:01\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(BadKey, match="which must be six bytes"):
        read_mac(keys({"mac": said}))


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused(said: str) -> None:
    with suppress(BadKey):
        assert len(read_mac(keys({"mac": said}))) == 6


@given(st.binary(min_size=14, max_size=80), st.binary(max_size=40))
def test_frames_between_the_same_two_are_of_one_flow(frame: bytes, more: bytes) -> None:
    """Whatever else is in them."""
    ends = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 14)
    frame = frame.ljust(ends, b"\0")
    assert flow(frame) == flow(frame[:ends] + more)
