"""Where the two rings of a vchan lie, given their orders.

libxenvchan puts a ring of up to 2 KiB into the control page where it can, so that a small vchan
costs one page. Both ends work the layout out for themselves: the server from the sizes asked
for, the client from the orders it finds, which it believes only if they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from activations.abi import vchan as abi
from activations.abi.grant_table import PAGE_SIZE
from activations.vchan.errors import VchanError

_PLACES = {abi.SMALL_ORDER: abi.SMALL_AT, abi.LARGE_ORDER: abi.LARGE_AT}


@dataclass(frozen=True, slots=True)
class Place:
    """One ring's place: `order` says its length, 2^order bytes."""

    order: int

    @property
    def pages(self) -> int:
        """Pages of its own; none where it lies in the control page."""
        return 0 if self.order in _PLACES else 1 << (self.order - abi.PAGE_ORDER)

    def within(self, control: memoryview) -> memoryview:
        """Its bytes in the control page, where it lies there."""
        start = _PLACES[self.order]
        return control[start : start + (1 << self.order)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Both rings' places. Raises `VchanError` if libxenvchan has no such layout."""

    left: Place
    """What the client writes."""
    right: Place
    """What the server writes."""

    def __post_init__(self) -> None:
        orders = (self.left.order, self.right.order)
        if not all(abi.SMALL_ORDER <= order <= abi.MAX_ORDER for order in orders):
            allowed = f"{abi.SMALL_ORDER} to {abi.MAX_ORDER}"
            raise VchanError(f"a vchan with rings of orders {orders}: an order must be {allowed}")
        inside = [_PLACES[order] for order in orders if order in _PLACES]
        if len(inside) != len(set(inside)):
            raise VchanError(f"a vchan with two rings of order {orders[0]} in one place")
        grants_end = abi.GRANTS_AT + abi.GRANT_SIZE * (self.left.pages + self.right.pages)
        if grants_end > min(inside, default=PAGE_SIZE):
            raise VchanError(
                f"a vchan with rings of orders {orders}: the grant references of the large ring "
                "would lie over the small one"
            )

    @classmethod
    def of(cls, left_order: int, right_order: int) -> Layout:
        return cls(Place(left_order), Place(right_order))


def layout_for(left: int, right: int) -> Layout:
    """The layout that libxenvchan chooses for rings of at least so many bytes.

    Raises `ValueError` for sizes below 1 or over 1 MiB, the protocol's limit.
    """
    for size in (left, right):
        if not 1 <= size <= 1 << abi.MAX_ORDER:
            raise ValueError(f"a ring of {size} bytes: a vchan's have 1 to {1 << abi.MAX_ORDER}")
    small, large = 1 << abi.SMALL_ORDER, 1 << abi.LARGE_ORDER
    if left <= small and right <= large:
        return Layout.of(abi.SMALL_ORDER, abi.LARGE_ORDER)
    if left <= large and right <= small:
        return Layout.of(abi.LARGE_ORDER, abi.SMALL_ORDER)
    if left <= large:
        return Layout.of(abi.LARGE_ORDER, _order_of_pages(right))
    if right <= large:
        return Layout.of(_order_of_pages(left), abi.LARGE_ORDER)
    return Layout.of(_order_of_pages(left), _order_of_pages(right))


def _order_of_pages(size: int) -> int:
    return max(abi.PAGE_ORDER, (size - 1).bit_length())
