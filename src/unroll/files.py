"""Files that a kill cannot leave half-written: write aside, flush to the disk, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unroll.errors import StoreError, UnrollError

FULL_DISK_BYTES = 64 << 10
"""Free space below which a failed write is put down to a full disk, whatever its error says."""


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush every file below a folder, and the folders themselves, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish_folder(partial: Path, target: Path) -> None:
    """Rename a finished folder to its final name, which must be free; after this it survives a power cut."""
    sync_folder(partial)
    os.rename(partial, target)
    sync_path(target.parent)


def sync_path(path: Path) -> None:
    """Flush a file, or one folder's own entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a failed write below ``path`` into a StoreError that says what to do.

    A library may tell of a full disk in an exception of its own; what then counts is whether the disk is full.
    """
    try:
        yield
    except UnrollError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EFBIG:
            raise StoreError(
                f"A file below {path} grew beyond the limit that this system sets on files. Nothing half-made was "
                "kept; raise the limit (ulimit -f), or make less data."
            ) from error
        if number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise StoreError(
                f"{path} cannot be written ({os.strerror(number)}). Run in a folder that you may write to, or point "
                "UNROLL_HOME at one."
            ) from error
        free = _free_bytes(path)
        if number in (errno.ENOSPC, errno.EDQUOT) or free < FULL_DISK_BYTES:
            raise StoreError(
                f"The disk is full: {free // 2**20} MiB are free where {path} is written. Nothing half-made was kept; "
                "free some space ('unroll clean' drops artifacts that no run needs) and run the same command again."
            ) from error
        raise


def existing_parent(path: Path) -> Path:
    """``path`` itself if it is there, else the nearest folder above it that is."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(existing_parent(path)).free
