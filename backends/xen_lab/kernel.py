"""The plain ELF kernel inside a bzImage.

Xen unpacks a compressed dom0 kernel itself, and under emulation that costs four seconds a boot;
here it costs a second, once. The boot protocol's header says where the compressed payload is.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess

from activations.errors import BackendError

SETUP_SECTS = 0x1F1
MAGIC, MAGIC_AT = b"HdrS", 0x202
PAYLOAD_OFFSET = 0x248
ELF = b"\x7fELF"


def unpack(image: bytes) -> bytes:
    """The ELF file packed into a bzImage. Raises `BackendError` if it cannot be had."""
    if image[MAGIC_AT : MAGIC_AT + 4] != MAGIC:
        raise BackendError("the kernel package holds no bzImage: is this an amd64 kernel?")
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = ((image[SETUP_SECTS] or 4) + 1) * 512 + offset
    kernel = _decompress(image[start : start + length])
    if not kernel.startswith(ELF):
        raise BackendError("the kernel's payload is not an ELF file: Xen could not boot it")
    return kernel


def _decompress(payload: bytes) -> bytes:
    # Linux appends the unpacked size to some formats, so the tail is left unread.
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(b"\x5d\0\0"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_ALONE).decompress(payload)
    if payload.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress(payload)
    if payload.startswith(b"\x1f\x8b"):
        return gzip.decompress(payload)
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(payload)
    raise BackendError(
        f"the kernel is packed in a way not known here (it starts with {payload[:4].hex()})"
    )


def _zstd(payload: bytes) -> bytes:
    if shutil.which("zstd") is None:
        raise BackendError("the kernel is packed with zstd: apt-get install zstd")
    # The appended size makes zstd complain after it has written all there is.
    return subprocess.run(["zstd", "-dcq"], input=payload, capture_output=True).stdout
