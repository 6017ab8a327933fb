"""Hostile bytes: at random, and what is nearly right, which goes further in."""

from __future__ import annotations

from random import Random

NUMBERS = (0, 1, 2, 7, 8, 11, 12, 31, 32, 33, 255, 256, 511, 512, 1023, 1024, 1025, 2048, 4095)
NUMBERS += (4096, 4097, (1 << 16) - 1, 1 << 16, 1 << 31, (1 << 32) - 1, (1 << 32) - 33)
TEXTS = ("", "0", "1", "-1", "4", "9", "4294967295", "4294967296", "\0", "\xff", "x" * 900, "4 ")
TEXTS += ("1" * 5000, "٣", "0x10", "1e3", "\n", "queue-0", "/", "//", "a/b", "b5", "n0", "\udcff")


def number(random: Random) -> int:
    """Of 32 bits; mostly one on which something turns."""
    return random.choice(NUMBERS) if random.random() < 0.7 else random.getrandbits(32)


def word(random: Random) -> bytes:
    return number(random).to_bytes(4, "little")


def words(random: Random, count: int) -> bytes:
    return b"".join([word(random) for _ in range(count)])


def text(random: Random, *more: str) -> str:
    """A value as a node of xenstore may hold it, or an argument."""
    if random.random() < 0.8:
        return random.choice((*TEXTS, *more))
    length = random.randrange(40)
    return "".join(chr(random.randrange(0x250)) for _ in range(length))


def spoilt(random: Random, data: bytes) -> bytes:
    """The same with something wrong: bytes changed, taken out, doubled, or cut off."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(out) + 1)
        match random.randrange(5):
            case 0:
                out[at : at + 1] = random.randbytes(1)
            case 1:
                out[at : at + 4] = word(random)
            case 2:
                del out[at : at + random.randint(1, 8)]
            case 3:
                out[at:at] = out[at : at + random.randint(1, 8)]
            case 4:
                del out[at:]
    return bytes(out)
