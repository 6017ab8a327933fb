"""One page of memory in two domains: a grant, and an event when there is something to read.

dom0 grants the page and writes; the guest maps it, reads, answers in the same page. The guest lets
go before dom0 takes the page back: Xen would refuse that with EBUSY.
"""

from activations import Domain, Scenario

shared_page = Scenario("shared_page")

KEY = "data/shared_page"
QUESTION = b"what is the answer?"
ANSWER = b"42"
SECOND_HALF = 2048


@shared_page.domain("dom0")
async def owner(xen: Domain) -> str:
    guest = await xen.find("guest")
    with xen.grants.share(guest) as page, xen.events.alloc_unbound(guest) as port:
        page.memory[: len(QUESTION)] = QUESTION
        await xen.store.write(f"/local/domain/{guest}/{KEY}", f"{port.number} {page.refs[0]}")
        await port.wait()
        answer = bytes(page.memory[SECOND_HALF:]).rstrip(b"\0").decode()
        print(f"the guest wrote: {answer}")
        port.notify()
        await port.wait()  # the guest has let go
    return answer


@shared_page.domain("guest")
async def reader(xen: Domain) -> str:
    number, ref = map(int, (await xen.store.wait_for(KEY)).split())
    await xen.store.rm(KEY)
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()  # Xen sets a port pending once when it is bound
        with xen.grants.map(0, [ref]) as page:
            question = bytes(page.memory[:SECOND_HALF]).rstrip(b"\0").decode()
            print(f"dom0 wrote: {question}")
            page.memory[SECOND_HALF : SECOND_HALF + len(ANSWER)] = ANSWER
            port.notify()
            await port.wait()  # dom0 has read it
        port.notify()
    return question
