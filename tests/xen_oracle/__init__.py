"""Xen's own event channel code as a witness against the simulator: see docs/truth.md.

world       what is compared: the Protocol that the simulator is aimed at
program     the neutral language: steps, and random programs of them
build       Xen's C out of Debian's source package, compiled behind shim.h, shim.c, oracle.c
xen         that library as a World, and as the one who checks another World step by step
compare     a program on both; what differed, shrunk and printed
facts       small programs with the answers that Xen's C gives: a checklist
search      random programs in search of a difference
pieces      a long search, over processes
mutants     faults planted in a copy of the other side: are they seen?
planted     the faults for the simulator
simulator   the simulator as a World: the one adapter
"""
