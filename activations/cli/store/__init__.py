"""`activations store`: xenstore by hand, and the simulated one for other programs.

    activations store serve /tmp/xenstored &
    export XENSTORED_PATH=/tmp/xenstored
    activations store write /greeting hello
    activations store ls -r

The commands that look at a store or change it speak to the socket that is named, else to the real
xenstore of this domain, through the backend `linux`. Values come from other domains, which need
not be friends: to a terminal no control character of theirs goes as it is.
"""

from activations.cli.store.commands import store

__all__ = ["store"]
