"""What can be wrong with what is asked, as one kind of error that says what to do."""

from __future__ import annotations

from activations.errors import ActivationsError


class KernelError(ActivationsError):
    """A kernel that cannot be explored as it is given: it does not compile, or lacks something."""
