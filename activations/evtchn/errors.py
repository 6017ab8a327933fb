"""What can keep two halves from finding each other, or part them."""

from activations.errors import ActivationsError


class HalfMissing(ActivationsError):
    """The other half did not come in time, or left before the end."""
