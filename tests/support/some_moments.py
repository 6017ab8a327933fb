"""Moments to make views of."""

from __future__ import annotations

from hypothesis import strategies as st

from xen_sim.explore.report import DEMUX, DEVIATION, NOTIFY, WAKE, WRONG, Moment

ACTORS = ("dom0", "guest")
PORT = "guest port 1"

HEARD = [
    Moment("guest", "alloc", changes=((PORT, "unbound"),)),
    Moment("dom0", "bind", ns=5, changes=((PORT, "clear"),)),
    Moment("dom0", "send port 3", ns=5, events=((NOTIFY, PORT),), changes=((PORT, "pending"),)),
    Moment("guest", "demux port 1", ns=5, events=((DEMUX, PORT),), changes=((PORT, "clear"),)),
    Moment("guest", "wake port 1", ns=5, events=((WAKE, PORT),)),
]
"""An event that comes and is heard."""

LOST = [
    *HEARD,
    Moment("guest", "about to hlt", DEVIATION, "solo5.c:81", 1_000_000),
    Moment("dom0", "bts evtchn_pending of guest", "", "", 1_000_000, ((NOTIFY, PORT),)),
    Moment("dom0", "hypercall yield_", "", "", 1_000_000, (), ((PORT, "pending"),)),
    Moment("guest", "lost <wake-up> & </script>", WRONG, "", 1_000_000),
]
"""The same, and then one that is not."""

_words = st.text(st.characters(codec="utf-8"), max_size=8)
_ports = st.sampled_from(["guest port 1", "guest port 2", "dom0 port 1"])
_events = st.lists(
    st.tuples(st.sampled_from([NOTIFY, DEMUX, WAKE]), _ports), max_size=2, unique=True
)
_changes = st.lists(st.tuples(_ports, _words), max_size=2)


@st.composite
def moments(draw: st.DrawFn) -> list[Moment]:
    """Any run."""
    ns, found = 0, []
    for _ in range(draw(st.integers(0, 30))):
        ns += draw(st.sampled_from([0, 0, 1, 10**9]))
        found.append(
            Moment(
                draw(st.sampled_from([*ACTORS, "guest.1"])),
                draw(_words),
                draw(st.sampled_from(["", "", "", DEVIATION, WRONG])),
                draw(_words),
                ns,
                tuple(draw(_events)),
                tuple(draw(_changes)),
            )
        )
    return found
