"""`activations evtchn`: event channels by hand.

activations evtchn ls                 what every port of this domain is bound to
activations evtchn ping               how long an event takes, there and back
activations evtchn flood              many channels, many senders: nothing is lost
activations evtchn watch con_ring     say when Xen raises a virtual interrupt
"""

from __future__ import annotations

import click

from activations.cli.evtchn.calls import answer, flood, ping
from activations.cli.evtchn.ls import ls
from activations.cli.evtchn.watch import watch


@click.group(short_help="Event channels, by hand: list, ping, flood, watch.")
def evtchn() -> None:
    """Look at event channels, and send events through them.

    In a domain of a real Xen, as root; or with `--backend sim` on a simulated Xen, with `--backend
    lab` on a real one that is emulated here. DOMAIN is a domain's number or its name.

    Exit status: 0 if all went well, 1 if an event was lost or the other half did not come, 2 if it
    could not be tried, as where this is no Xen domain, 130 if interrupted.
    """


for _command in (ls, ping, flood, answer, watch):
    evtchn.add_command(_command)
