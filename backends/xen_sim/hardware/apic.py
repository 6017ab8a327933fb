"""A local APIC: which vectors are requested, and which are in service.

An interrupt's bit goes from IRR to ISR when the processor takes it, and leaves ISR at the handler's
EOI. A vector is delivered if no vector of its priority class or a higher one is in service. So a
handler that forgets its EOI stops what comes after it.

Source: the Intel manual's chapter on the advanced programmable interrupt controller.
"""

from __future__ import annotations

FIRST_VECTOR = 16
"""Vectors below this one are reserved: no APIC delivers them."""


class LocalAPIC:
    """Interrupt request and in-service registers, 256 vectors each, as bits of one integer."""

    __slots__ = ("irr", "isr")

    def __init__(self) -> None:
        self.irr: int = 0
        self.isr: int = 0

    def request(self, vector: int) -> bool:
        """Set a vector's bit in IRR; true if it was not set."""
        bit = 1 << vector
        new = not self.irr & bit
        self.irr |= bit
        return new

    def deliverable(self) -> bool:
        """Whether the highest vector that is requested may be delivered now."""
        irr = self.irr
        if not irr:
            return False
        isr = self.isr
        return not isr or (irr.bit_length() - 1) >> 4 > (isr.bit_length() - 1) >> 4

    def acknowledge(self) -> int:
        """The processor takes the highest vector: it is in service from now on."""
        vector = self.irr.bit_length() - 1
        self.irr &= ~(1 << vector)
        self.isr |= 1 << vector
        return vector

    def eoi(self) -> None:
        """End of interrupt: the highest vector in service leaves it."""
        if self.isr:
            self.isr &= ~(1 << (self.isr.bit_length() - 1))
