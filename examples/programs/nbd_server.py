"""A disk from another domain, for programs on the network: an NBD server on a block front end.

    activations run examples/programs/nbd_server.py
    qemu-img info nbd://127.0.0.1:10809/disk         # meanwhile, in another shell; Ctrl-C ends it

dom0 serves a disk in memory. The guest has it by our front end, and offers it to NBD clients: each
of their requests is a task that reads or writes the disk, so many are under way at once. Sockets
need the wall clock.

Source of the numbers: doc/proto.md of the Network Block Device project; fixed newstyle handshake,
simple replies.
"""

import asyncio
import errno
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from struct import Struct

from activations import Domain, Scenario
from activations.drivers import block
from activations.drivers.block import Disk, MemoryDisk, devid_of
from activations.xenbus import Device, front_device, plug

nbd_server = Scenario("nbd_server", clock="wall")

XVDA = devid_of("xvda")
SIZE = 64 << 20
PORT = 10809
NAME = b"disk"

GREETING = Struct(">8s8sH")
OPTION = Struct(">8sII")
"""Magic, option, length of what follows."""
REPLY = Struct(">QIII")
"""Magic, option, kind, length of what follows."""
EXPORT = Struct(">QH")
"""Size, flags."""
INFO_EXPORT = Struct(">HQH")
INFO_BLOCK_SIZE = Struct(">HIII")
REQUEST = Struct(">IHHQQI")
"""Magic, flags, command, cookie, offset, length."""
ANSWER = Struct(">IIQ")
"""Magic, errno, cookie."""
OPTION_MAGIC, REPLY_MAGIC = b"IHAVEOPT", 0x3E889045565A9
REQUEST_MAGIC, ANSWER_MAGIC = 0x25609513, 0x67446698

FIXED_NEWSTYLE, NO_ZEROES = 1, 2
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR_UNSUP, REP_ERR_INVALID, REP_ERR_UNKNOWN = 0x80000001, 0x80000003, 0x80000006
HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_TRIM = 1, 2, 4, 32
READ, WRITE, DISC, FLUSH, TRIM = range(5)

TOLD = {errno.EROFS: errno.EPERM, errno.EOPNOTSUPP: errno.EOPNOTSUPP}
"""The errno that NBD knows for one that it does not; for all others, EIO."""

LONGEST_OPTION = 4096
LONGEST_REQUEST = 32 << 20
AT_ONCE = 64
"""Requests of one client."""


@nbd_server.domain("dom0")
async def serve_disk(xen: Domain) -> None:
    device = Device("vbd", XVDA, await xen.find("guest"), xen.domid, "nbd-example")
    await plug(xen, device)
    async with block.serve(xen, device, MemoryDisk(SIZE)) as end:
        await end.finished()


@nbd_server.domain("guest")
async def serve_clients(xen: Domain) -> None:
    device = await front_device(xen, "vbd", XVDA)
    async with block.open(xen, device) as disk, listening(disk, PORT) as port:
        print(f"nbd://127.0.0.1:{port}/{NAME.decode()}: {disk}")
        await asyncio.Event().wait()


@asynccontextmanager
async def listening(disk: Disk, port: int) -> AsyncIterator[int]:
    """Serve NBD clients while the block lasts; gives the port, which 0 lets the system choose."""
    async with asyncio.TaskGroup() as clients:

        def connected(reader: StreamReader, writer: StreamWriter) -> None:
            clients.create_task(Client(disk, reader, writer).serve())

        async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
            yield server.sockets[0].getsockname()[1]


class Nonsense(Exception):
    """A client that does not speak NBD."""


class Client:
    """One connection."""

    def __init__(self, disk: Disk, reader: StreamReader, writer: StreamWriter) -> None:
        self.disk = disk
        self.reader = reader
        self.writer = writer
        self.zeroes = True

    async def serve(self) -> None:
        """Until it leaves, or says what cannot be understood."""
        try:
            if await self.greet() and await self.negotiate():
                await self.transmit()
        except* (ConnectionError, IncompleteReadError, Nonsense):
            pass
        finally:
            self.writer.close()
            with suppress(ConnectionError):
                await self.writer.wait_closed()

    # The handshake

    async def greet(self) -> bool:
        self.writer.write(GREETING.pack(b"NBDMAGIC", OPTION_MAGIC, FIXED_NEWSTYLE | NO_ZEROES))
        flags = int.from_bytes(await self.reader.readexactly(4), "big")
        self.zeroes = not flags & NO_ZEROES
        return not flags & ~(FIXED_NEWSTYLE | NO_ZEROES)

    async def negotiate(self) -> bool:
        """Answer options until one of them ends the handshake; whether requests follow."""
        while True:
            magic, option, length = OPTION.unpack(await self.reader.readexactly(OPTION.size))
            if magic != OPTION_MAGIC or length > LONGEST_OPTION:
                raise Nonsense
            data = await self.reader.readexactly(length)
            if option == OPT_EXPORT_NAME:
                return self.export(data)
            if option == OPT_ABORT:
                self.reply(option, REP_ACK)
                return False
            if option == OPT_LIST:
                self.reply(option, REP_SERVER, len(NAME).to_bytes(4, "big") + NAME)
                self.reply(option, REP_ACK)
            elif option in (OPT_INFO, OPT_GO):
                if self.inform(option, data) and option == OPT_GO:
                    return True
            else:
                self.reply(option, REP_ERR_UNSUP)

    def reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self.writer.write(REPLY.pack(REPLY_MAGIC, option, kind, len(data)) + data)

    def export(self, name: bytes) -> bool:
        """The oldest way to begin, which knows no error but to hang up."""
        if name not in (b"", NAME):
            return False
        zeroes = bytes(124) if self.zeroes else b""
        self.writer.write(EXPORT.pack(self.disk.size, self.flags()) + zeroes)
        return True

    def inform(self, option: int, data: bytes) -> bool:
        """Say what the disk is like; whether it is the one that was asked for."""
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length + 2:
            self.reply(option, REP_ERR_INVALID)
            return False
        if data[4 : 4 + length] not in (b"", NAME):
            self.reply(option, REP_ERR_UNKNOWN)
            return False
        unit = self.disk.sector_size
        self.reply(option, REP_INFO, INFO_EXPORT.pack(0, self.disk.size, self.flags()))
        self.reply(option, REP_INFO, INFO_BLOCK_SIZE.pack(3, unit, 4096, LONGEST_REQUEST))
        self.reply(option, REP_ACK)
        return True

    def flags(self) -> int:
        return (
            HAS_FLAGS
            | (READ_ONLY if self.disk.read_only else 0)
            | (SEND_FLUSH if self.disk.can_flush else 0)
            | (SEND_TRIM if self.disk.can_discard else 0)
        )

    # Requests

    async def transmit(self) -> None:
        """Do what is asked for, each in a task of its own, until the client has had enough."""
        free = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as requests:
            while True:
                request = REQUEST.unpack(await self.reader.readexactly(REQUEST.size))
                magic, _, command, cookie, offset, length = request
                if magic != REQUEST_MAGIC or (
                    command in (READ, WRITE) and length > LONGEST_REQUEST
                ):
                    raise Nonsense
                if command == DISC:
                    return
                data = await self.reader.readexactly(length) if command == WRITE else b""
                await free.acquire()
                task = requests.create_task(self.answer(command, cookie, offset, length, data))
                task.add_done_callback(lambda _: free.release())

    async def answer(
        self, command: int, cookie: int, offset: int, length: int, data: bytes
    ) -> None:
        number, read = 0, b""
        try:
            read = await self.do(command, offset, length, data)
        except ValueError:  # not within the disk, or not aligned
            number = errno.EINVAL
        except OSError as error:
            number = TOLD.get(error.errno or 0, errno.EIO)
        self.writer.write(ANSWER.pack(ANSWER_MAGIC, number, cookie) + read)
        await self.writer.drain()

    async def do(self, command: int, offset: int, length: int, data: bytes) -> bytes:
        if command == READ:
            return await self.disk.read(offset, length)
        if command == WRITE:
            await self.disk.write(offset, data)
        elif command == FLUSH:
            await self.disk.flush()
        elif command == TRIM:
            await self.disk.discard(offset, length)
        else:
            raise ValueError(f"command {command}")
        return b""
