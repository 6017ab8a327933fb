"""Linux's /dev/net/tun: a network device whose other end is a file.

Source: include/uapi/linux/if_tun.h and if.h; the ioctl's number is x86's.
"""

from struct import Struct
from typing import Final

PATH: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA
IFNAMSIZ: Final = 16
"""Bytes of a device's name, the zero at its end included."""
IFREQ: Final = Struct("<16sH22x")
"""struct ifreq: ifr_name, ifr_flags."""
IFF_TAP: Final = 0x0002
"""Ethernet frames."""
IFF_NO_PI: Final = 0x1000
"""Nothing before a frame."""
