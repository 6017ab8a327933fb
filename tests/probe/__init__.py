"""A bare guest of ours on a real Xen, as the second witness against the simulator: docs/truth.md.

kernel/     the guest, in C: programs.c does what steps say, june.c is the table of June 2020
steps       the language: hypercall 32 as in xen_oracle, and what only a guest on a processor can do
programs    random programs in it
halves      lower halves for it: the files that xen_kernel explores
grants      those of a guest that maps and copies what another grants
build       the kernel, compiled with Xen's public headers out of Debian's packages
module      programs as the guest reads them, and its answers
in_dom0     runs in dom0: makes the guest, reads its answers in its memory, is its peer
lab         programs on a real Xen
simulated   the same interpreter on a plain guest of the simulator; simulated_grants is its half of
            kernel/grants.c
compare     what differs, shrunk and printed
planted     faults for the simulator, each of which has to be seen
"""
