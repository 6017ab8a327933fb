"""Xen's own xenstored as a witness against the simulated one: see docs/truth.md.

build            xenstored out of Debian's source package, over stored.c: a machine of ours
world            what both are: connections, guests' ring pages, domains that come and go
program          the neutral language: steps, and how they read
stored           Xen's xenstored as a World
simulated        the simulated one as a World
compare          a program on both; what differed, shrunk and printed
random_programs  programs that nobody thought of, valid and malformed
search           random programs in search of a difference
planted          faults for a copy of the simulator: are they seen?
"""
