"""What may go wrong in a simulated machine, and is asked of its tape like everything else.

kinds     the faults there are, by kind, and which of them every program has to stand
ask       what a machine asks: whether this happens, here
swarm     a tape that answers by a chance of its own, another one in each run

Each fault stands where it happens: `xen.faulty_channels` has those of events, and so on.
"""
