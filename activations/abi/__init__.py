"""Xen's public interface as data: numbers and layouts, each with the header it comes from.

Nothing here has behaviour, and nothing here imports anything else of this package.
Sizes and offsets are those of x86_64.
"""
