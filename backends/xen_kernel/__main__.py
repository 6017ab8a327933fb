"""`python -m xen_kernel FILE...`: a kernel's own C, decided."""

from __future__ import annotations

import sys

from xen_kernel.command import command

if __name__ == "__main__":
    sys.exit(command(prog_name="python -m xen_kernel"))
