"""Builds the accelerator as the package is installed, where there is a C compiler and Python's
headers for it; where not, it is left out in silence. With ACTIVATIONS_ACCELERATOR=required in the
environment that is a failure, as when wheels are made. docs/accelerator.md says what it is.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from binascii import crc32
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-Wall")
NAME = "_accelerator"
REQUIRED = os.environ.get("ACTIVATIONS_ACCELERATOR") == "required"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls before it makes a wheel, or an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / "activations"
        built = folder / (NAME + sysconfig.get_config_var("EXT_SUFFIX"))
        try:
            compile_c(folder / f"{NAME}.c", built)
        except (OSError, subprocess.CalledProcessError) as error:
            built.unlink(missing_ok=True)  # one that is older than its source
            if REQUIRED:
                said = getattr(error, "stderr", None) or error
                raise SystemExit(f"the accelerator could not be built: {said}") from None
            return
        build_data["artifacts"].append(f"activations/{built.name}")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def compile_c(source: Path, built: Path) -> None:
    """Raises `OSError` where there is no compiler, `CalledProcessError` where it fails."""
    if sys.implementation.name != "cpython" or os.name != "posix":
        raise OSError(f"it is written for CPython on Linux, not for {sys.implementation.name}")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise OSError("it is written for one thread at a time, and this Python is free-threaded")
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    include = sysconfig.get_path("include")
    digest = f"{crc32(source.read_bytes()):08x}"
    part = built.with_name(f"{built.name}.{os.getpid()}")
    command = [*shlex.split(compiler), *FLAGS, f'-DSOURCE="{digest}"', f"-I{include}"]
    command += [str(source), "-o", str(part)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
        part.replace(built)
    finally:
        part.unlink(missing_ok=True)
