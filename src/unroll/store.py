"""Content-addressed artifacts on disk: published whole or not at all, verified when read, explained when missing.

    store/<project>/<stage>/<key>/manifest.json     what the key is made of, and a digest of every file
                                  files…
    work/<project>/<stage>-<key>/                   what a killed stage goes on from (checkpoints); removed when done

A stage's key is the SHA-256 over its inputs' digests, the settings it reads, and the source of the modules it runs
through. A manifest keeps these parts, so a miss can say which of them changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unroll.errors import StoreError
from unroll.files import publish_folder, sha256_of, write_json, writing

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class StageKey:
    """Everything that decides what a stage makes."""

    project: str
    stage: str
    inputs: Mapping[str, str]
    """Digest of each artifact or outside file that the stage reads."""
    settings: Mapping[str, Any]
    """Dotted names and plain values of the settings that the stage reads."""
    code: Mapping[str, str]
    """SHA-256 of the source of each module that the stage runs through."""

    @property
    def digest(self) -> str:
        """The key itself: SHA-256 (hex) over all parts."""
        parts = [self.project, self.stage, dict(self.inputs), dict(self.settings), dict(self.code)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """What differs from another key of the stage, in words; ``other`` has the parts as its manifest keeps them."""
        words = []
        settings = json.loads(json.dumps(dict(self.settings)))
        for name in sorted({*settings, *other["settings"]}):
            before, now = other["settings"].get(name, "unset"), settings.get(name, "unset")
            if before != now:
                words.append(f"{name} changed from {before} to {now}")
        for kind, ours in (("input", self.inputs), ("code of", self.code)):
            theirs = other["inputs" if kind == "input" else "code"]
            words += [
                f"{kind} {name} changed" for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)
            ]
        return words


@dataclass(frozen=True)
class Artifact:
    """A published folder."""

    stage: str
    key: str
    """Digest of the stage key."""
    path: str
    digest: str
    """SHA-256 over the names and digests of its files."""

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return Path(self.path)


class Store:
    """Artifacts below one folder, shared by any number of processes."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, made when something is first written."""
        self.root = root
        self.work = root.parent / "work"
        self._damage: dict[str, str] = {}

    def find(self, key: StageKey) -> Artifact | None:
        """The artifact of a key, every file checked against its digest; a damaged one is set aside and logged."""
        folder = self._folder(key)
        if not (folder / MANIFEST).exists():
            return None
        try:
            return verify(folder)
        except StoreError as error:
            logger.warning("%s; made anew", error)
            self._damage[key.digest] = f"its artifact was damaged: {error}"
            self.remove_artifact(folder)
            return None

    def explain_miss(self, key: StageKey) -> str:
        """Why there is no artifact: what differs from the most similar one of the stage, the newest among equals."""
        if key.digest in self._damage:
            return self._damage[key.digest]
        candidates = []
        for path in self._folder(key).parent.glob(f"*/{MANIFEST}"):
            try:
                manifest = json.loads(path.read_text(encoding="utf-8"))
                candidates.append((key.differences(manifest), -float(manifest["created"])))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        if not candidates:
            return "never made here"
        words, _ = min(candidates, key=lambda candidate: (len(candidate[0]), candidate[1]))
        return "; ".join(words) if words else "its files were removed"

    def publish(self, key: StageKey, write: Callable[[Path], None]) -> Artifact:
        """Let ``write`` fill an empty folder, then make it the key's artifact in one rename.

        Whatever ``write`` raises leaves nothing behind. Raises StoreError for a full disk or a read-only folder.
        """
        target = self._folder(key)
        partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            for leftover in target.parent.glob(f"{target.name}.*-*"):  # of a killed process: we hold the lock
                shutil.rmtree(leftover, ignore_errors=True)
            partial.mkdir()
            try:
                with writing(target):  # looks at the disk before the half-made folder is gone
                    write(partial)
                    _write_manifest(key, partial)
                    self.remove_artifact(target)  # whatever lacks a readable manifest would be in the way
                    publish_folder(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return verify(target)

    def remove(self, key: StageKey) -> None:
        """Drop an artifact and what a killed run of its stage left, so that the stage starts anew."""
        self.remove_artifact(self._folder(key))
        self.finish_work(key)

    def remove_artifact(self, folder: Path) -> None:
        """Drop a published folder, if it is there."""
        if not folder.exists():
            return
        with writing(folder):
            aside = folder.with_name(f"{folder.name}.removed-{time.time_ns()}")
            os.rename(folder, aside)  # one step: no reader ever sees half an artifact
            shutil.rmtree(aside, ignore_errors=True)

    def work_folder(self, key: StageKey) -> Path:
        """Where a stage keeps what a killed run goes on from."""
        return self.work / key.project / f"{key.stage}-{key.digest[:32]}"

    def finish_work(self, key: StageKey) -> None:
        """Remove the work folder of a stage that is done."""
        shutil.rmtree(self.work_folder(key), ignore_errors=True)

    @contextmanager
    def lock(self, key: StageKey) -> Iterator[None]:
        """Hold a stage against other processes; the system frees it when its holder dies, however that happens."""
        from filelock import FileLock, Timeout

        folder = self._folder(key)
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_name(f"{folder.name}.lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.info("another process is busy with %s of the same run; waiting for it", key.stage)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _folder(self, key: StageKey) -> Path:
        return self.root / key.project / key.stage / key.digest[:32]


def verify(folder: Path) -> Artifact:
    """Check every file of an artifact against its manifest. Raises StoreError saying which one differs."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, str] = dict(manifest["files"])
        stage, key = str(manifest["stage"]), str(manifest["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / MANIFEST} cannot be read ({error})") from error
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path} is missing from its artifact")
        if sha256_of(path) != expected:
            raise StoreError(f"{path} is not what was written there (its SHA-256 differs from the manifest's)")
    return Artifact(stage, key, str(folder), _files_digest(files))


def source_digests(modules: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the source of some ``unroll`` modules and of every ``unroll`` module that they import, at any depth.

    Read from the source text without importing it, so that keys are quick to compute and imports stay late.
    """
    digests: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in digests or (path := _source_path(module)) is None:
            continue
        source = path.read_bytes()
        digests[module] = hashlib.sha256(source).hexdigest()
        waiting.extend(_unroll_imports(source))
    return dict(sorted(digests.items()))


@cache
def _source_path(module: str) -> Path | None:
    relative = Path(*module.split(".")[1:])
    package = Path(__file__).parent
    for path in (package / relative.with_suffix(".py"), package / relative / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _unroll_imports(source: bytes) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("unroll."))


def _write_manifest(key: StageKey, folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    manifest = {
        "format": FORMAT,
        "project": key.project,
        "stage": key.stage,
        "key": key.digest,
        "inputs": dict(key.inputs),
        "settings": dict(key.settings),
        "code": dict(key.code),
        "files": files,
        "created": time.time(),
    }
    write_json(folder / MANIFEST, manifest)


def _files_digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()
