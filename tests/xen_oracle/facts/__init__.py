"""What Xen's event channels answer, as small programs: a checklist for who writes them anew.

Each is a rule, its name a sentence, and holds on any World; the tests ask Xen's own C first. They
are the places where a simulator was wrong, or easily would be. Domain 0 is privileged, 1 and 2 are
not, and all have two vCPUs, where a fact does not say otherwise.
"""

from . import events, fifo, ports
from .guest import FACTS, Fact

__all__ = ["FACTS", "Fact", "events", "fifo", "ports"]
