"""`activations demo`: a small machine room, and what its ports and rings do.

`activations.demo` is the room. Here `state` keeps what its domains tell, `tables` and `view` show
it, and `findings` compares what they saw.
"""

from activations.cli.demo.command import demo

__all__ = ["demo"]
