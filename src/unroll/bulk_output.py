"""The folder that scores are written to, and the job that it belongs to; `unroll.bulk` says what lies in it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unroll.errors import ConfigError, StoreError
from unroll.files import existing_parent, sha256_of, sync_path, write_json, writing
from unroll.sample_statistics import SampleStatistics, add_up

logger = logging.getLogger(__name__)

FORMAT = 2
JOB_FILE = "_job.json"
MANIFEST_FILE = "_manifest.json"
LOCK_FILE = ".lock"
JOB_KEY = b"unroll.job"
"""Where a part's own metadata keep the digest of its job."""
STATISTICS_KEY = b"unroll.statistics"
"""Where they keep its `unroll.sample_statistics`: there as soon as the part is, and only then."""
DRIFT_FILE = "_drift.json"
DRIFT_PLOT = "_drift.png"


@dataclass(frozen=True)
class ScoringJob:
    """Everything that decides what is in the parts."""

    input_sha256: str
    text_column: str
    part_rows: int
    precision: str
    model_name: str
    model_version: str
    weights_sha256: str
    vocabulary_sha256: str
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over all fields; every part carries it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def differences(self, other: ScoringJob) -> list[str]:
        """What differs from the job that was begun before, in words."""
        theirs, ours = asdict(other), asdict(self)
        return [f"{name} was {theirs[name]}, is {ours[name]}" for name in ours if ours[name] != theirs[name]]


class ScoringFolder:
    """The folder that a job writes. One process at a time."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made or read yet."""
        self.folder = folder

    def check(self) -> None:
        """Raise ConfigError where the folder cannot be one of ours: a file, in no folder, or with other things.

        StoreError where nothing can be written there.
        """
        if not self.folder.absolute().parent.is_dir():
            raise ConfigError(f"{self.folder} cannot be made: there is no folder {self.folder.parent}; make it first.")
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file; expected the name of a folder for the parts.")
        if self.folder.is_dir() and not (self.folder / JOB_FILE).exists():
            others = sorted(path.name for path in self.folder.iterdir() if not _is_scrap(path.name))
            if others:
                raise ConfigError(
                    f"{self.folder} holds {', '.join(others[:5])} and no {JOB_FILE}, so it is no folder of scores; "
                    "name an empty or a new one."
                )
        try:
            with tempfile.TemporaryFile(dir=existing_parent(self.folder.absolute())):
                pass
        except OSError as error:
            raise StoreError(
                f"{self.folder} cannot be written ({error.strerror or error}); name a folder where you may write."
            ) from error

    def job(self) -> ScoringJob | None:
        """The job that was begun here, None without one. Raises StoreError where its file cannot be read."""
        path = self.folder / JOB_FILE
        try:
            return ScoringJob(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} cannot be read ({error}); remove {self.folder} and score anew.") from error

    @property
    def is_done(self) -> bool:
        """Whether the job came to its end."""
        return (self.folder / MANIFEST_FILE).exists()

    def manifest(self) -> dict[str, Any]:
        """What the finished job left. Raises StoreError where it cannot be read."""
        path = self.folder / MANIFEST_FILE
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}); remove {self.folder} and score anew.") from error
        return manifest

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folder and hold it against other processes; it goes again where nothing came into it.

        Raises ConfigError: see `check`. StoreError: another process is at work in it, or it cannot be made.
        """
        from filelock import FileLock, Timeout

        self.check()
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
            lock = FileLock(self.folder / LOCK_FILE)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise StoreError(f"Another process is scoring into {self.folder}; wait, or name another.") from error
        try:
            yield
        finally:
            (self.folder / LOCK_FILE).unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()  # of a job that never began nothing is left
            lock.release()

    def begin(self, job: ScoringJob, overwrite: bool) -> int:
        """Take the folder for a job; returns how many of its parts are there and whole.

        What is there of the same job stays. Raises ConfigError where another job was begun here, unless its output is
        to be overwritten.
        """
        begun = self.job()
        if begun is not None and begun != job:
            if not overwrite:
                raise ConfigError(
                    f"{self.folder} holds the scores of another job: {'; '.join(job.differences(begun))}. Name another "
                    "folder, repeat that job's command, or add --overwrite to replace them."
                )
            self._clear(0)
            begun = None
        if begun is None:
            write_json(self.folder / JOB_FILE, asdict(job))
            sync_path(self.folder)
        if self.is_done and self._is_as_it_was_left():
            return len(self.parts())
        whole = 0
        while _is_whole(self.part(whole), job):
            whole += 1
        self._clear(whole)
        return whole

    def part(self, number: int) -> Path:
        """Where a part lies, or will."""
        return self.folder / f"part-{number:05d}.parquet"

    def parts(self) -> list[Path]:
        """The parts there are, in order."""
        return sorted(self.folder.glob("part-*.parquet"), key=lambda path: int(path.stem.removeprefix("part-")))

    def publish(self, number: int, table: pa.Table) -> None:
        """Write a part beside its name, flush it to the disk, rename it."""
        target = self.part(number)
        partial = self.folder / f".{target.name}.partial"
        try:
            with partial.open("wb") as file:
                pq.write_table(table, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
            sync_path(self.folder)
        finally:
            partial.unlink(missing_ok=True)

    def statistics(self) -> SampleStatistics:
        """What was counted of all parts. Raises StoreError where one cannot be read."""
        try:
            kept = [pq.read_metadata(path).metadata[STATISTICS_KEY] for path in self.parts()]
            return add_up(SampleStatistics.from_dict(json.loads(plain)) for plain in kept)
        except (OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"A part in {self.folder} cannot be read ({error}). Run again.") from error

    def finish(self, manifest: dict[str, Any]) -> None:
        """Write the manifest, which says that the job is done."""
        write_json(self.folder / MANIFEST_FILE, manifest)
        sync_path(self.folder)

    def _is_as_it_was_left(self) -> bool:
        noted = {part["name"]: part["sha256"] for part in self.manifest()["parts"]}
        changed = [name for name in noted if _digest(self.folder / name) != noted[name]]
        if not changed:
            return True
        logger.warning("%s: %s changed or gone since the job was done; made anew", self.folder, ", ".join(changed[:5]))
        for name in changed:
            (self.folder / name).unlink(missing_ok=True)
        return False

    def _clear(self, first: int) -> None:
        """Drop the parts from a number on, and what killed runs left."""
        for name in (MANIFEST_FILE, DRIFT_FILE, DRIFT_PLOT):
            (self.folder / name).unlink(missing_ok=True)
        for path in [*self.parts()[first:], *self.folder.glob("*.partial"), *self.folder.glob(".*.partial")]:
            path.unlink(missing_ok=True)


def _is_whole(path: Path, job: ScoringJob) -> bool:
    """Whether a part of this job lies there that others may follow, or that is the last."""
    try:
        metadata = pq.read_metadata(path)
    except FileNotFoundError:
        return False
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s is damaged and made anew (%s)", path, error)
        return False
    return (metadata.metadata or {}).get(JOB_KEY) == job.digest.encode()


def _digest(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None


def _is_scrap(name: str) -> bool:
    """Left by a process that was killed before it had begun a job."""
    return name == LOCK_FILE or (name.startswith(JOB_FILE) and name.endswith(".partial"))
