"""The console of a paravirtual guest: bytes each way through one shared page.

Neither end asks to be told: an end that has written or read sends an event each time.

Source: xen/include/public/io/console.h, struct xencons_interface; the grant reference from
xen/include/public/grant_table.h.
"""

from typing import Final

IN_AT: Final = 0
IN_SIZE: Final = 1024
"""What is typed: the back end writes it."""
OUT_AT: Final = 1024
OUT_SIZE: Final = 2048
"""What is printed: the front end writes it."""
IN_CONS: Final = 3072
IN_PROD: Final = 3076
OUT_CONS: Final = 3080
OUT_PROD: Final = 3084

GNTTAB_RESERVED_CONSOLE: Final = 0
"""The reference under which the toolstack grants a guest's first console, before it boots."""

RING_REF: Final = "ring-ref"
"""The node with the page's grant reference; of a first console it holds the frame's number."""
PORT: Final = "port"
"""The node with the front end's port."""
