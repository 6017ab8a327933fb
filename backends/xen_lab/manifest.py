"""What an image is made of, and whether it still is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "manifest.json"


class Damaged(Exception):
    """A file is missing or is not what was recorded; says which."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The packages' versions, and each file's size in bytes and SHA-256."""

    packages: dict[str, str]
    files: dict[str, tuple[int, str]]

    @classmethod
    def record(cls, folder: Path, packages: Mapping[str, str]) -> Manifest:
        """Describe the files below a folder and write that beside them."""
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
        files = {str(p.relative_to(folder)): (p.stat().st_size, _hash(p)) for p in paths}
        manifest = cls(dict(packages), files)
        (folder / NAME).write_text(json.dumps(asdict(manifest), indent=1) + "\n")
        return manifest

    @classmethod
    def check(cls, folder: Path, *, hashes: bool = False) -> Manifest:
        """Read the manifest and compare the files with it: sizes, and hashes if asked.

        Raises `Damaged`.
        """
        try:
            read = json.loads((folder / NAME).read_bytes())
            files = {n: (int(size), str(digest)) for n, (size, digest) in read["files"].items()}
            manifest = cls(dict(read["packages"]), files)
        except OSError:
            raise Damaged(f"{NAME} is missing") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(f"{NAME} makes no sense") from None
        for name, (size, digest) in manifest.files.items():
            _compare(folder / name, size, digest if hashes else None)
        return manifest


def _compare(path: Path, size: int, digest: str | None) -> None:
    try:
        found = path.stat().st_size
    except OSError:
        raise Damaged(f"{path.name} is missing") from None
    if found != size:
        raise Damaged(f"{path.name} has {found} bytes instead of {size}")
    if digest is not None and _hash(path) != digest:
        raise Damaged(f"{path.name} has other bytes than were written")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
