"""A web server with one resource, which gives ranges of it, and can answer anything."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

Answer = Callable[[int, int], bytes | None]
"""What it answers when asked for the bytes from the first to the last; None: it keeps silent."""


def ranges_of(image: bytes, *, etag: str = '"one"', reason: str = " Partial Content") -> Answer:
    """As a server should."""

    def answer(first: int, last: int) -> bytes:
        head = (
            f"HTTP/1.1 206{reason}\r\nContent-Range: bytes {first}-{last}/{len(image)}\r\n"
            f"ETag: {etag}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + image[first : last + 1]

    return answer


class Server:
    """Each connection is asked once. How it answers can change."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []
        """The head of each request."""
        self.open = self.most = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            wanted = re.search(r"\r\nRange: bytes=(\d+)-(\d+)\r\n", head, re.IGNORECASE)
            assert wanted is not None
            said = self.answer(int(wanted[1]), int(wanted[2]))
            if said is None:
                await reader.read()
            else:
                writer.write(said)
        finally:
            self.open -= 1
            writer.close()

    @asynccontextmanager
    async def listening(self, tls: SSLContext | None = None) -> AsyncIterator[str]:
        """Its URL."""
        async with await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=tls) as listening:
            port = listening.sockets[0].getsockname()[1]
            yield f"http{'s' * (tls is not None)}://127.0.0.1:{port}/a/disk?of=mine"
