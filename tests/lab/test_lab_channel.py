"""Messages on a line that others write to as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xen_lab.inside.channel import LONGEST, Decoder, encode, pack, unpack

WORDS = st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3)
NOISE = st.binary(max_size=30).map(lambda b: b.replace(b"\x1e", b"").replace(b"\n", b""))


def decode(data: bytes, step: int = 0) -> list[dict[str, object] | bytes]:
    decoder = Decoder()
    pieces = [data[i : i + step] for i in range(0, len(data), step)] if step else [data]
    return [item for piece in pieces for item in decoder.feed(piece)]


@given(st.lists(WORDS), st.integers(1, 50))
def test_messages_come_back_however_they_are_cut(messages: list[dict[str, str]], step: int) -> None:
    assert decode(b"".join(map(encode, messages)), step) == messages


@given(NOISE, WORDS, NOISE)
def test_noise_before_and_between_is_handed_on(before: bytes, words: dict, between: bytes) -> None:
    found = decode(before + encode(words) + between + b"\n" + encode(words))
    assert [item for item in found if isinstance(item, dict)] == [words, words]
    noise = b"".join(item for item in found if isinstance(item, bytes))
    assert noise == before + between.rstrip(b"\r")


@given(WORDS, st.data())
def test_a_damaged_message_is_noise_and_counted(words: dict, data: st.DataObject) -> None:
    line = bytearray(encode(words))
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.sampled_from([0x01, 0x40, 0x80]))
    decoder = Decoder()
    found = list(decoder.feed(bytes(line) + encode({"whole": "1"})))
    assert found[-1] == {"whole": "1"}
    assert words not in found[:-1] or line[at : at + 1].isalpha()  # a checksum digit's case


@given(st.binary(max_size=400))
def test_garbage_never_breaks_the_decoder(data: bytes) -> None:
    decoder = Decoder()
    list(decoder.feed(data))
    assert list(decoder.feed(b"\n" + encode({"after": "all"})))[-1] == {"after": "all"}


def test_a_kernel_that_speaks_in_the_middle_costs_that_message_only() -> None:
    line = encode({"a": "b"})
    decoder = Decoder()
    found = list(decoder.feed(line[:12] + b"[   1.0] oops\r\n" + line[12:] + encode({"c": "d"})))
    assert decoder.damaged == 1
    assert found == [line[:12] + b"[   1.0] oops", line[12:].rstrip(b"\n"), {"c": "d"}]


def test_a_line_without_end_does_not_grow_for_ever() -> None:
    decoder = Decoder()
    assert list(decoder.feed(b"x" * (LONGEST + 1))) == [b"x" * (LONGEST + 1)]
    assert list(decoder.feed(encode({"a": "b"}))) == [{"a": "b"}]


def test_carriage_returns_of_a_cooked_terminal_do_no_harm() -> None:
    assert decode(encode({"a": "b"}).replace(b"\n", b"\r\n")) == [{"a": "b"}]


@pytest.mark.parametrize("data", [b"", b"\0\xff", b"text" * 1000])
def test_bytes_survive_packing(data: bytes) -> None:
    assert unpack(pack(data)) == data
