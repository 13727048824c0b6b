"""One file that holds files and their digests: written whole or not at all, believed only once every digest fits.

A tar with `manifest.json` as its last member, so that a file that was cut short has none.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unroll.errors import StoreError
from unroll.files import sync_path, writing

MANIFEST = "manifest.json"
FORMAT = 1
BLOCK_BYTES = 1 << 20
Progress = Callable[[str, int], None]
"""Called with a member's name and the bytes that it added."""


@dataclass(frozen=True)
class Contents:
    """What an archive says of itself."""

    about: Mapping[str, Any]
    """When it was made, of what."""
    digests: Mapping[str, str]
    """SHA-256 (hex) by member."""
    size: int
    """Bytes of all members."""


class _Hashing:
    """A file that is digested as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        return block


def write_archive(
    target: Path, members: Mapping[str, Path], about: Mapping[str, Any], progress: Progress = lambda *_: None
) -> Contents:
    """Put files into ``target`` under the names given; only its owner may read it. A kill leaves no ``target``.

    A file that has gone since it was listed is left out. Raises StoreError: the disk is full, or ``target`` is there.
    """
    if target.exists():
        raise StoreError(f"{target} is there already; name another file.")
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    digests: dict[str, str] = {}
    size = 0
    with writing(target):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    for name, path in members.items():
                        if (added := _add(tar, name, path)) is not None:
                            digests[name], member_size = added
                            size += member_size
                            progress(name, member_size)
                    _add_manifest(tar, {"format": FORMAT, "about": dict(about), "size": size, "sha256": digests})
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, target)
            sync_path(target.absolute().parent)
        finally:
            partial.unlink(missing_ok=True)
    return Contents(about, digests, size)


def read_archive(source: Path, folder: Path | None = None, progress: Progress = lambda *_: None) -> Contents:
    """Check every member against the manifest; unpack into ``folder``, which must be empty, if it is given.

    What lies in ``folder`` after an error is not to be used. Raises StoreError: the archive is damaged, cut short, or
    none of ours.
    """
    found: dict[str, str] = {}
    manifest: Any = None
    try:
        with tarfile.open(source, mode="r:") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is None or not _is_plain(member.name) or member.name in found:
                    raise StoreError(f"{source} holds {member.name!r}, which no backup does; it is damaged.")
                if member.name == MANIFEST:
                    manifest = json.load(file)
                    continue
                found[member.name] = _copy(file, folder / member.name if folder else None)
                progress(member.name, member.size)
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise StoreError(f"{source} is no backup of Unroll, or is cut short ({error}).") from error
    except FileNotFoundError as error:
        raise StoreError(f"There is no file {source}.") from error
    return _checked(source, manifest, found)


def _checked(source: Path, manifest: Any, found: Mapping[str, str]) -> Contents:
    if not isinstance(manifest, dict):
        raise StoreError(f"{source} has no {MANIFEST} at its end: it is cut short, or no backup of Unroll.")
    if manifest.get("format") != FORMAT:
        raise StoreError(f"{source} has format {manifest.get('format')}; this version reads {FORMAT}.")
    expected, about, size = manifest.get("sha256"), manifest.get("about"), manifest.get("size")
    if not isinstance(expected, dict) or not isinstance(about, dict) or not isinstance(size, int):
        raise StoreError(f"{source} is damaged: its {MANIFEST} lacks what every one has. Use another backup.")
    wrong = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise StoreError(f"{source} is damaged: {wrong[0]}{more} is not what was put in. Use another backup.")
    return Contents(about, expected, size)


def _add(tar: tarfile.TarFile, name: str, path: Path) -> tuple[str, int] | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        member = tar.gettarinfo(arcname=name, fileobj=file)
        # owners and times of this machine mean nothing on another
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        hashing = _Hashing(file)
        tar.addfile(member, hashing)
    return hashing.digest.hexdigest(), member.size


def _add_manifest(tar: tarfile.TarFile, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1).encode()
    member = tarfile.TarInfo(MANIFEST)
    member.size = len(text)
    tar.addfile(member, io.BytesIO(text))


def _copy(file: IO[bytes], target: Path | None) -> str:
    """Read to the end; the digest of what was read."""
    hashing = _Hashing(file)
    if target is None:
        while hashing.read(BLOCK_BYTES):
            pass
        return hashing.digest.hexdigest()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            while block := hashing.read(BLOCK_BYTES):
                copy.write(block)
    return hashing.digest.hexdigest()


def _is_plain(name: str) -> bool:
    parts = PurePosixPath(name)
    return bool(name) and not parts.is_absolute() and ".." not in parts.parts
