"""What speaks over a byte stream speaks over a vchan: TLS, as anyio has it."""

from __future__ import annotations

import ssl

import pytest
import trustme
from anyio import EndOfStream
from anyio.streams.tls import TLSStream

from activations import Domain, vchan
from xen_sim import Machine

KEY = "data/tls"
MUCH = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_over_a_vchan(authority: trustme.CA, trusted: bool) -> None:
    """With the server's name checked, and much more than the rings hold in each direction."""
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("dom0.test").configure_cert(there)
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted:
        authority.configure_trust(here)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        async with vchan.listen(xen, guest, f"/local/domain/{guest}/{KEY}") as listener:
            stream = await listener.accept()
        async with stream:
            try:
                tls = await wrapped(stream, ssl_context=there, server_side=True)
                received = b""
                while len(received) < len(MUCH):
                    received += await tls.receive()
                await tls.send(received[::-1])
                assert await tls.receive() == b"thanks"
            except (ssl.SSLError, EndOfStream):  # the guest hung up
                assert not trusted

    async def guest(xen: Domain) -> bytes:
        async with await vchan.connect(xen, 0, KEY) as stream:
            try:
                tls = await wrapped(stream, ssl_context=here, hostname="dom0.test")
            except ssl.SSLCertVerificationError:
                return b"not trusted"
            await tls.send(MUCH)
            received = b""
            while len(received) < len(MUCH):
                received += await tls.receive()
            await tls.send(b"thanks")
            return received

    machine = Machine(seed=0)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    assert machine.run()["guest"] == (MUCH[::-1] if trusted else b"not trusted")


async def wrapped(stream: vchan.VchanStream, **how: object) -> TLSStream:
    """A vchan's directions cannot be closed one by one, so nobody waits for TLS's own goodbye."""
    return await TLSStream.wrap(stream, standard_compatible=False, **how)
