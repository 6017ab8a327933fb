"""Event channels by hand: what every port is bound to, and how fast and how surely events go.

`listing` asks a backend for the ports of a domain, `ping` and `flood` send events through channels
of their own, and `board` is what the two ends of those tell each other. `activations evtchn` is the
command for all of it.
"""
