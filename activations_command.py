"""Where the command `activations` begins.

Importing the rest takes half a second, and Ctrl-C may come in it: then the command ends as it does
at any later time, and not in a traceback. So this module stands outside the package.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> int:
    """Run the command; give its exit status."""
    try:
        from activations.cli import main as command
    except KeyboardInterrupt:
        print("activations: interrupted", file=sys.stderr)
        return INTERRUPTED
    return command()
