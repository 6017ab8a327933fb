"""Drivers that speak to those of other systems: front ends and back ends of Xen's split devices."""
