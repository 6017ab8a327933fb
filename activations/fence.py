"""A fence: no load after it overtakes a store before it.

Two domains that share memory tell each other by a pair of words: each stores its own, then loads
the other's. x86 reorders just that pair, and Python has no barrier; but taking a lock is a locked
instruction, which is one, and so it stands in for it: `with fence: pass`, or the load inside.
"""

from threading import Lock

Fence = Lock
"""Each end of a ring has its own, which is never contended."""
