"""Xen's own command-line tools for xenstore."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

import pytest

from support.debian import unpacked

PACKAGES = ["xenstore-utils", "libxenstore4", "libxentoolcore1"]


@pytest.fixture(scope="module")
def installed() -> Mapping[str, str]:
    """An environment in which the tools are found: this machine's, or Debian's unpacked."""
    if shutil.which("xenstore-ls"):
        return os.environ
    root = unpacked("Xen's own xenstore tools", PACKAGES)
    libraries = [str(library.parent) for library in root.rglob("libxen*.so.*")]
    return {
        **os.environ,
        "PATH": f"{root}/usr/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": ":".join(dict.fromkeys(libraries)),
    }
