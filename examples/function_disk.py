"""A disk that is a function: nobody stored what the guest reads from it.

    activations run examples/function_disk.py
    activations run examples/function_disk.py --backend lab

dom0 serves a disk to the guest. Its content is a picture, and each sector is drawn when it is read.
A Linux guest that has this disk from its own blkfront gets the picture by `cat /dev/xvda`.
"""

from activations import Domain, Scenario
from activations.drivers import block
from activations.drivers.block import ObjectDisk, devid_of
from activations.xenbus import Device, front_device, plug, unplug

function_disk = Scenario("function_disk")

SECTOR = 512
WIDTH, HEIGHT = 64, 24
"""Characters; eight lines fill a sector. The last of each line ends it."""
SHADES = " .:-=+*%@#"
XVDA = devid_of("xvda")


class Mandelbrot:
    """What `ObjectDisk` asks for: bytes from an offset on. Without `write` it is read-only."""

    def __init__(self) -> None:
        self.drawn = 0

    def read(self, offset: int, length: int) -> bytes:
        self.drawn += length // SECTOR
        return bytes(map(character, range(offset, offset + length)))


def character(offset: int) -> int:
    """One byte of the disk."""
    y, x = divmod(offset, WIDTH)
    if x == WIDTH - 1:
        return ord("\n")
    point, z, steps = complex(3.0 * x / WIDTH - 2.15, 2.4 * y / HEIGHT - 1.2), 0j, 0
    while abs(z) < 2 and steps < 3 * len(SHADES) - 1:
        z, steps = z * z + point, steps + 1
    return ord(SHADES[steps // 3])


@function_disk.domain("dom0")
async def serve(xen: Domain) -> int:
    device = Device("vbd", XVDA, await xen.find("guest"), xen.domid, served_as="function-disk")
    await plug(xen, device, front={"virtual-device": XVDA, "device-type": "disk"})  # as Linux wants
    picture = Mandelbrot()
    async with block.serve(xen, device, ObjectDisk(picture, WIDTH * HEIGHT)) as end:
        await end.finished()  # the guest has come, and left
    await unplug(xen, device)
    print(f"drew {picture.drawn} sectors")
    return picture.drawn


@function_disk.domain("guest")
async def look(xen: Domain) -> str:
    device = await front_device(xen, "vbd", XVDA)
    async with block.open(xen, device) as disk:
        lines = (await disk.read(0, disk.size)).decode().splitlines()
    print(*lines, sep="\n")
    return lines[HEIGHT // 2]
