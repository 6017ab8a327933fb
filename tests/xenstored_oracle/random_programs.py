"""Random programs: what clients and guests ask, rightly and wrongly, and what becomes of domains.

They are drawn from few paths, tokens, domains, so that what one does matters to another; and with
low limits as often as with xenstored's own, so that all are met.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random

from activations.abi import xs_wire
from activations.abi.xs_wire import HEADER, PAYLOAD_MAX, MessageType

from .program import Kind, Program, Step, c_number
from .world import Limits

LOW = Limits(
    nodes=4,
    node_size=120,
    permissions=3,
    watches=1,
    transactions=2,
    transaction_nodes=5,
    outstanding=3,
)
GUESTS = (1, 2, 3)
STEPS = (20, 40, 80, 160)

_PATHS = [
    *("/a", "/a/b", "/a/b/c", "/a/d", "/b", "/b/x", "/c", "/", "x", "x/y", "x/z", "y", "data"),
    *("/local/domain/1", "/local/domain/1/x", "/local/domain/1/x/y", "/local/domain/2/x"),
    *("/tool", "/tool/xenstored", "/local", "/local/domain", "a@b", "/a/-_9Z"),
]
_NEAR = ["/a", "/a/b", "x", "x/y"]
_ODD_PATHS = [
    *(
        "",
        "@",
        "@releaseDomain",
        "@introduceDomain",
        "@nonsense",
        "//",
        "/a/",
        "/a//b",
        "/a b",
        "a/",
    ),
    *(
        "/\xe9",
        "/@x",
        ".",
        "/a/../b",
        "/a\n",
        "/local/domain/1/",
        "/l" + "l" * 2046,
        "/" + "l" * 2048,
    ),
    *("/local/domain/1/" + "l" * 2048, "/local/domain/12345/" + "l" * 2048, "l" * 2048, "l" * 2049),
    *("/local/domain/123456/" + "l" * 2042, "/local/domain/-1/" + "l" * 2048, "/d" * 40),
    *("/local/domain/-1234/" + "l" * 2048, "/local/domain/1x/" + "l" * 2048, "@" + "x" * 2047),
    *("/local/domain/1" + "l" * 2048, "@" + "x" * 2048, "/local/domain/" + "l" * 2040),
    *("/a/" + letter * 900 for letter in "opqrst"),
]
_TOKENS = ["t", "t", "u", "", "a token", "\xff", "t" * 4000]
_VALUES = [
    b"",
    b"v",
    b"value",
    b"two\0strings\0",
    bytes(range(256)),
    b"x" * 90,
    b"y" * 1900,
    b"z" * 3000,
]
_PERMISSIONS = ["n0", "n1", "n2", "r0", "b0", "r1", "b1", "w2", "b2", "r3", "n3", "b3", "r7"]
_ODD_PERMISSIONS = [
    *(
        "",
        "x",
        "n",
        "n-1",
        "r0x2",
        "r010",
        "b 1",
        "w+2",
        "n1x",
        "r1 ",
        "r99999",
        "r4294967297",
        "nn",
    ),
    *("r99999999999999999999", "r\t2", "b0b1", "w09"),
]
_NUMBERS = ["0", "1", "2", "3", "7"]
_ODD_NUMBERS = [
    "",
    "1 ",
    " 2",
    "+1",
    "-1",
    "1x",
    "x",
    "0x1",
    "65535",
    "32752",
    "4294967297",
    "007",
    "1\n",
]
_OFFSETS = ["0", "0", "1", "2", "3", "5", "9", "99", "902", "1804", "3608"]
_KINDS = [
    *[MessageType.WRITE] * 9,
    *[MessageType.READ] * 4,
    *[MessageType.DIRECTORY] * 3,
    *[MessageType.DIRECTORY_PART] * 3,
    *[MessageType.MKDIR] * 4,
    *[MessageType.RM] * 5,
    *[MessageType.GET_PERMS] * 3,
    *[MessageType.SET_PERMS] * 6,
    *[MessageType.WATCH] * 6,
    *[MessageType.UNWATCH] * 3,
    *[MessageType.TRANSACTION_START] * 6,
    *[MessageType.TRANSACTION_END] * 6,
    MessageType.GET_DOMAIN_PATH,
    MessageType.IS_DOMAIN_INTRODUCED,
    MessageType.RESET_WATCHES,
    MessageType.RELEASE,
    MessageType.RESUME,
    MessageType.SET_TARGET,
    MessageType.CONTROL,
    *[MessageType.INTRODUCE] * 2,
]
_IN_TRANSACTIONS = [
    *[MessageType.WRITE] * 3,
    *(MessageType.MKDIR, MessageType.RM, MessageType.READ, MessageType.DIRECTORY),
]
_NO_KINDS = [15, 16, 18, 20, 23, 24, 25, 26, 27, 0xFFFF, 2**32 - 1]


def programs(seed: int) -> Iterator[Program]:
    """One after another, for ever."""
    return (program(number) for number in itertools.count(seed * 1_000_000))


def program(seed: int) -> Program:
    """The program of this number: always the same."""
    return _Author(Random(seed)).program()


_Who = tuple[bool, int]
"""Whether it is a guest, and its domid; or a client's number."""


class _Author:
    """Of one program: it has its own few paths, and knows about which transactions are open."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._pick = chance.choice
        self._paths = [*_NEAR, *chance.sample(_PATHS, 3)]
        self._clients = 0
        self._targets: set[int] = set()
        """Whom somebody may act for. Xen's xenstored never quite lets go of them: they stay."""
        self._begun: Counter[_Who] = Counter()
        self._open: defaultdict[_Who, list[int]] = defaultdict(list)
        """How many transactions each client and each guest has begun, and which are open, as far as
        one can tell."""

    def program(self) -> Program:
        limits = self._pick([LOW, Limits()])
        steps = [Step(Kind.CONNECT, 0), *self._guests()]
        self._clients = 1
        end = self._pick(STEPS)
        while len(steps) < end:
            steps += self._steps()
        return Program(limits, steps)

    def _guests(self) -> Iterator[Step]:
        for domid in GUESTS[: self._pick([0, 1, 2, 3])]:
            yield Step(Kind.CREATE, domid)
            yield Step(Kind.ASK, 0, data=_message(MessageType.INTRODUCE, b"%d\0001\0002\0" % domid))
            yield Step(Kind.ASK, 0, data=_message(MessageType.MKDIR, b"/local/domain/%d\0" % domid))
            home = b"/local/domain/%d\0n%d\0" % (domid, domid)
            yield Step(Kind.ASK, 0, data=_message(MessageType.SET_PERMS, home))
        if self._chance.random() < 0.7:
            yield Step(Kind.ASK, 0, data=_message(MessageType.MKDIR, b"/a\0"))
            shared = self._pick(
                (b"/a\0b0\0", b"/a\0n0\0b1\0r2\0", b"/a\0r1\0b2\0", b"/a\0r0\0w1\0")
            )
            yield Step(Kind.ASK, 0, data=_message(MessageType.SET_PERMS, shared))

    def _steps(self) -> Iterator[Step]:
        chance = self._chance.random()
        client = self._chance.randrange(self._clients)
        guest = self._pick((0, *GUESTS))
        if chance < 0.45:
            yield Step(Kind.ASK, client, data=self._requests((False, client), 0.1))
            if self._chance.random() < 0.6:
                yield Step(Kind.TAKE, client)
        elif chance < 0.75:
            yield Step(Kind.PUT, guest, data=self._requests((True, guest), 0.4))
            if self._chance.random() < 0.7:
                yield Step(Kind.GET, guest, self._pick((1, 16, 30, 1024)))
        elif chance < 0.8:
            yield Step(Kind.TAKE, client)
        elif chance < 0.86:
            yield Step(Kind.GET, guest, self._pick((1, 16, 1024, 1024)))
        elif chance < 0.93:
            yield from self._guests_transaction(self._pick(GUESTS))
        else:
            yield from self._seldom(client, guest)

    def _guests_transaction(self, guest: int) -> Iterator[Step]:
        """From its beginning to its end, with little in between that could keep it from that."""
        who = True, guest
        self._begun[who] += 1
        number = self._begun[who]
        requests = [_message(MessageType.TRANSACTION_START, b"\0")]
        for _ in range(self._chance.randrange(1, 5)):
            kind = self._pick(_IN_TRANSACTIONS)
            requests.append(_message(kind, self._payload(kind), number))
        requests.append(_message(MessageType.TRANSACTION_END, b"T\0", number))
        for request in requests:
            yield Step(Kind.PUT, guest, data=request)
            yield Step(Kind.GET, guest, 1024)
            if self._chance.random() < 0.1:
                yield Step(Kind.ASK, 0, data=self._requests((False, 0), 0.1))

    def _seldom(self, client: int, guest: int) -> Iterator[Step]:
        chance = self._chance.random()
        domid = self._pick(GUESTS)
        introduce = _message(MessageType.INTRODUCE, b"%d\0001\0002\0" % domid)
        if chance < 0.25 and self._clients < 4:
            yield Step(Kind.CONNECT, self._clients)
            self._clients += 1
        elif chance < 0.32:
            data = self._requests((False, client), 0.1)
            yield Step(Kind.LEAVE, client, data=data[: self._chance.randrange(len(data) + 1)])
        elif chance < 0.42:
            yield Step(Kind.CREATE, domid)
            yield Step(Kind.ASK, client, data=introduce)
        elif chance < 0.52:
            yield Step(Kind.SHUT_DOWN, domid)
        elif chance < 0.75 and domid not in self._targets:
            yield Step(Kind.DESTROY, domid)
            if self._chance.random() < 0.8:
                yield Step(Kind.CREATE, domid)
                yield Step(Kind.ASK, client, data=introduce)
        elif chance < 0.82:
            index = self._pick(
                (xs_wire.REQ_CONS, xs_wire.REQ_PROD, xs_wire.RSP_CONS, xs_wire.RSP_PROD)
            )
            value = self._pick((0, 1, 16, 1024, 1025, 2**32 - 1, self._chance.randrange(2**32)))
            yield Step(Kind.POKE, guest, value, index.to_bytes(2))
        elif chance < 0.86:
            yield Step(Kind.PUT, guest, data=self._chance.randbytes(self._chance.randrange(64)))
        elif chance < 0.9:
            header = HEADER.pack(MessageType.READ, 0, 0, PAYLOAD_MAX + self._pick((0, 1, 2**31)))
            yield Step(Kind.PUT, guest, data=header)
        else:
            yield from self._long_listing(client)

    def _long_listing(self, client: int) -> Iterator[Step]:
        """One that just goes into a message, or just does not."""
        for name in ("a" * 1500, "b" * 1500, "c" * self._chance.randrange(1080, 1100)):
            yield Step(
                Kind.ASK, client, data=_message(MessageType.MKDIR, _strings(f"/long/{name}"))
            )
        yield Step(Kind.TAKE, client)
        listing = _message(MessageType.DIRECTORY_PART, _strings("/long", "0"))
        yield Step(Kind.ASK, client, data=listing + _message(MessageType.RM, _strings("/long")))

    def _requests(self, who: _Who, more: float) -> bytes:
        requests = [self._request(*who)]
        while self._chance.random() < more:
            requests.append(self._request(*who))
        return b"".join(requests)

    def _request(self, is_guest: bool, who: int) -> bytes:
        chance = self._chance
        kind = self._pick(_KINDS) if chance.random() < 0.98 else self._pick(_NO_KINDS)
        payload = self._payload(kind)
        unprivileged = is_guest and who
        if unprivileged and kind == MessageType.SET_PERMS and payload.startswith((b"@r", b"@i")):
            payload = payload[1:]  # Xen's own refuses it with the error of some call before it
        if chance.random() < 0.03:
            payload = self._spoilt(payload)
        transaction = self._transaction(kind, payload, (is_guest, who))
        return _message(kind, payload[:PAYLOAD_MAX], transaction, chance.randrange(1000))

    def _transaction(self, kind: int, payload: bytes, who: _Who) -> int:
        """Mostly one that is open, or none; one in a hundred that there is not."""
        chance, there = self._chance.random(), self._open[who]
        if kind == MessageType.TRANSACTION_START and chance < 0.95:
            self._begun[who] += 1
            there.append(self._begun[who])
            return 0
        if kind == MessageType.RESET_WATCHES:
            return 99 if chance < 0.1 else 0  # within one, Xen's own runs into an assertion
        if chance < 0.01:
            return 99
        if not there or chance > (0.95 if kind == MessageType.TRANSACTION_END else 0.6):
            return 0
        number = self._pick(there)
        if kind == MessageType.TRANSACTION_END and payload in (b"T\0", b"F\0"):
            there.remove(number)
        return number

    def _payload(self, kind: int) -> bytes:
        match kind:
            case MessageType.WRITE:
                value = b"x" * self._pick((72, 80, 88, self._chance.randrange(100)))
                return _strings(self._path()) + self._pick((value, self._pick(_VALUES)))
            case MessageType.DIRECTORY_PART:
                return _strings(self._path(), self._of(_OFFSETS, _ODD_NUMBERS))
            case MessageType.SET_PERMS:
                many = self._pick((1, 1, 2, 2, 3, 4, 6, 0))
                permissions = [self._of(_PERMISSIONS, _ODD_PERMISSIONS) for _ in range(many)]
                path = self._path()
                if path == "/" and many:  # with its owner Xen's own would remove all there is
                    permissions[0] = "r0"
                return _strings(path, *permissions)
            case MessageType.WATCH | MessageType.UNWATCH:
                special = ["@releaseDomain", "@introduceDomain"]
                path = self._pick(special) if self._chance.random() < 0.1 else self._path()
                return _strings(path, self._pick(_TOKENS))
            case MessageType.TRANSACTION_START | MessageType.RESET_WATCHES:
                return b"\0"
            case MessageType.TRANSACTION_END:
                return self._pick((b"T\0", b"T\0", b"T\0", b"F\0", b"x\0", b"TT\0"))
            case MessageType.INTRODUCE:
                domid = self._pick(("1", "2", "3", "7"))
                return _strings(domid, "1", self._of(["1", "2"], _ODD_NUMBERS))
            case MessageType.SET_TARGET:
                domid, target = (self._of(_NUMBERS, _ODD_NUMBERS) for _ in range(2))
                self._targets.add(c_number(target.encode()))
                return _strings(domid, target)
            case MessageType.RELEASE | MessageType.RESUME:
                domid = self._of(_NUMBERS, _ODD_NUMBERS)
                if kind == MessageType.RELEASE and c_number(domid.encode()) in self._targets:
                    domid = "7"
                return _strings(domid)
            case MessageType.GET_DOMAIN_PATH | MessageType.IS_DOMAIN_INTRODUCED:
                return _strings(self._of(_NUMBERS, _ODD_NUMBERS))
            case MessageType.CONTROL:
                return self._pick((b"", b"no such command\0", b"x"))
            case _:
                return _strings(self._path())

    def _path(self) -> str:
        return self._of(self._paths, _ODD_PATHS)

    def _of(self, usual: list[str], odd: list[str]) -> str:
        return self._pick(usual if self._chance.random() < 0.93 else odd)

    def _spoilt(self, payload: bytes) -> bytes:
        match self._chance.randrange(5):
            case 0:
                return payload[:-1]
            case 1:
                return payload + self._pick((b"\0", b"more", b"more\0"))
            case 2:
                return b""
            case 3:
                return payload.replace(b"\0", b"")
            case _:
                return payload + b"x" * (PAYLOAD_MAX - len(payload))


def _message(kind: int, payload: bytes, transaction: int = 0, request: int = 0) -> bytes:
    return HEADER.pack(kind, request, transaction, len(payload)) + payload


def _strings(*parts: str) -> bytes:
    return b"".join([part.encode("latin-1") + b"\0" for part in parts])
