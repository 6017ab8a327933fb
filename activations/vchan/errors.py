"""What a vchan's other end can do wrong."""

from anyio import BrokenResourceError

from activations.errors import ActivationsError


class VchanError(ActivationsError, BrokenResourceError):
    """The other end breaks the protocol, by accident or on purpose: ring indices further apart
    than the ring is long, orders that fit no layout, nonsense in xenstore. To anyio's code it is
    a `BrokenResourceError` like any other."""
