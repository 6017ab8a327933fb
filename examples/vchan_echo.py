"""An echo over vchan: a byte stream between two domains.

    activations run examples/vchan_echo.py
    activations run examples/vchan_echo.py --backend lab

dom0 listens below the guest's home in xenstore; the guest connects, speaks, and leaves, which
ends dom0's stream. Either end could be a C program on libxenvchan.
"""

from activations import Domain, Scenario, vchan

vchan_echo = Scenario("vchan_echo")

KEY = "data/vchan-echo"
WORDS = ["hello", "from", "the", "guest"]


@vchan_echo.domain("dom0")
async def echo(xen: Domain) -> int:
    guest = await xen.find("guest")
    echoed = 0
    path = f"/local/domain/{guest}/{KEY}"
    async with (
        vchan.listen(xen, guest, path) as listener,
        await listener.accept() as stream,
    ):
        async for data in stream:
            await stream.send(data.upper())
            echoed += len(data)
    print(f"domain {guest} has left; {echoed} bytes echoed")
    return echoed


@vchan_echo.domain("guest")
async def speak(xen: Domain) -> str:
    heard = []
    async with await vchan.connect(xen, 0, KEY) as stream:
        for word in WORDS:
            await stream.send(word.encode())
            answer = b""
            while len(answer) < len(word):
                answer += await stream.receive()
            heard.append(answer.decode())
    print(" ".join(heard))
    return " ".join(heard)
