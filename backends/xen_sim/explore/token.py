"""A token: a course that fits into one word, and says so where it no longer fits.

    x1-ayqgkaaqc4bd5a2m

`x1` is the version; the rest are bytes in base 32. First a check of the program's identity, three
bytes; then the seed of the program's own chance; then for each deviation how many choices after the
one before, which option, and a byte of all questions in between (`course.checks`); last a check of
the whole, two bytes, by which one that is cut short is found out. Numbers are seven bits a byte,
lowest first.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from binascii import Error as NotBase32
from dataclasses import dataclass
from zlib import crc32

from activations.errors import ActivationsError
from xen_sim.explore.course import Course, Deviation, add_question, asked
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Diverged, Tape
from xen_sim.varint import varint

VERSION = "x1"
_PROGRAM, _WHOLE = 3, 2
"""Bytes of the two checks."""


class TokenError(ActivationsError):
    """A token that cannot be replayed here; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says."""

    program: int
    """The check of the program's identity, by `identify`."""
    seed: int
    course: Course
    checks: tuple[int, ...]
    """A byte for each deviation."""

    def __str__(self) -> str:
        body = self.program.to_bytes(_PROGRAM, "big") + varint(self.seed)
        last = -1
        for (at, answer), check in zip(self.course, self.checks, strict=True):
            body += varint(at - last - 1) + varint(answer) + bytes((check,))
            last = at
        text = b32encode(body + _whole(body)).decode().rstrip("=").lower()
        return f"{VERSION}-{text}"

    def tape(self) -> Checked:
        """Takes this course; stops at the first deviation before which it was asked otherwise."""
        return Checked(self)


def identify(identity: str) -> int:
    """The check of a program's identity: its name, its domains, and how they are built."""
    return crc32(identity.encode()) & 0xFFFFFF


def parse(text: str) -> Token:
    """Raises `TokenError` for what is not a token, one of another version, or one cut short."""
    version, dash, rest = text.strip().partition("-")
    if not dash or not version.startswith("x") or not version[1:].isdigit():
        raise TokenError(f"{text!r} is not a token: one begins with '{VERSION}-'")
    if version != VERSION:
        raise TokenError(
            f"{text!r} is of version {version}, and this is {VERSION}: replay it with the version "
            "that gave it, or explore again"
        )
    try:
        whole = b32decode(rest.upper() + "=" * (-len(rest) % 8))
    except (NotBase32, ValueError):
        whole = b""
    body, check = whole[:-_WHOLE], whole[-_WHOLE:]
    if len(body) <= _PROGRAM or check != _whole(body):
        raise TokenError(f"{text!r} is cut short or mistyped: copy all of it")
    try:
        return _read(body)
    except (IndexError, OverflowError):  # its checks are right: somebody made it so
        raise TokenError(f"{text!r} is whole, but holds no course: copy the token again") from None


def parse_for(text: str, identity: str, name: str) -> Token:
    """As `parse`, for this program. Raises `TokenError` for another program's token."""
    token = parse(text)
    if token.program != identify(identity):
        raise TokenError(
            f"{text!r} was found in another program than {name}, or with other options (kernel, "
            "delivery, vCPUs, faults): give the file and the options that it was found with"
        )
    return token


class Checked(Tape):
    """A token's course, each deviation held against what is asked."""

    def __init__(self, token: Token) -> None:
        self.rest: list[tuple[Deviation, int]] = list(zip(token.course, token.checks, strict=True))
        """Deviations that are still to come: none, once the run has gone as the token says."""
        self._met = 0
        self._running = 0

    def choose(self, choice: Choice) -> int:
        number = self._met
        self._met += 1
        if not self.rest:
            return 0
        self._running = add_question(self._running, *choice.asked)
        (at, answer), check = self.rest[0]
        if number != at:
            return 0
        if self._running & 0xFF != check or answer >= len(choice.options):
            raise Diverged(
                f"the token no longer fits: at choice {number}, or since the deviation before it, "
                f"the program asks otherwise than when it was found; it is {asked(choice)} now"
            )
        del self.rest[0]
        self._running = 0
        return answer


def _read(body: bytes) -> Token:
    seed, at = _take(body, _PROGRAM)
    deviations, found, last = [], [], -1
    while at < len(body):
        gap, at = _take(body, at)
        answer, at = _take(body, at)
        last += gap + 1
        deviations.append(Deviation(last, answer))
        found.append(body[at])
        at += 1
    return Token(int.from_bytes(body[:_PROGRAM], "big"), seed, tuple(deviations), tuple(found))


def _take(body: bytes, at: int) -> tuple[int, int]:
    """The number that stands here, and where the next thing stands. Raises `IndexError` where the
    bytes end before it does, and `OverflowError` for one that `varint` does not write."""
    value = shift = 0
    while body[at] & 0x80:
        value |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
    value |= body[at] << shift
    if value >> 64:
        raise OverflowError(value)
    return value, at + 1


def _whole(body: bytes) -> bytes:
    return (crc32(body) & 0xFFFF).to_bytes(_WHOLE, "big")
