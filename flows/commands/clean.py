"""``unroll clean``: drop artifacts that no kept run needs, and what killed runs left behind."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.embedded import Workplace, workplace
from unroll.errors import StoreError
from unroll.files import writing
from unroll.store import MANIFEST, verify

logger = logging.getLogger("unroll.clean")


def clean_store(everything: bool, dry_run: bool) -> None:
    """Remove artifacts that no registration leads to, half-made folders, and checkpoints; print what went.

    An artifact is needed while a register artifact reaches it through its inputs: a repeated run then still skips.
    What a running command works on is left to it.
    """
    place = workplace()
    needed = set() if everything else _needed(place.store)
    dropped, freed = 0, 0
    for folder in _doomed(place, needed):
        with _alone(place, folder) as is_alone:
            if not is_alone:
                print(f"left {folder.relative_to(place.root)}: a command is busy with it")
                continue
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            print(f"{'would drop' if dry_run else 'dropped'} {folder.relative_to(place.root)} ({size / 2**20:.1f} MiB)")
            if not dry_run:
                with writing(folder):
                    shutil.rmtree(folder)
        dropped, freed = dropped + 1, freed + size
    verb = "would go" if dry_run else "dropped"
    print(f"{dropped} folders {verb}, {freed / 2**20:.1f} MiB; {len(needed)} artifacts kept")


def _doomed(place: Workplace, needed: set[Path]) -> list[Path]:
    artifacts = [folder for folder in _artifacts(place.store) if folder not in needed]
    half_made = sorted(path for path in place.store.glob("*/*/*.*-*") if path.is_dir())
    return [*artifacts, *half_made, *sorted(path for path in place.work.glob("*/*") if path.is_dir())]


def _artifacts(store: Path) -> Iterator[Path]:
    yield from (path.parent for path in sorted(store.glob(f"*/*/*/{MANIFEST}")) if "." not in path.parent.name)


@contextmanager
def _alone(place: Workplace, folder: Path) -> Iterator[bool]:
    """Whether no running command holds the stage that a folder of the store or of its work belongs to."""
    from filelock import FileLock, Timeout

    if folder.is_relative_to(place.work):
        stage, _, key = folder.name.rpartition("-")
        lock_path = place.store / folder.parent.name / stage / f"{key}.lock"
    else:
        lock_path = folder.with_name(f"{folder.name.partition('.')[0]}.lock")
    if not lock_path.exists():
        yield True
        return
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _needed(store: Path) -> set[Path]:
    """Artifacts that some register artifact reaches through its inputs. A damaged one is of no use to a run."""
    # several keys may have made the same files; which one a repeated run asks for is for its code to say
    made: dict[str, list[Path]] = {}
    inputs: dict[Path, list[str]] = {}
    for folder in _artifacts(store):
        try:
            made.setdefault(verify(folder).digest, []).append(folder)
        except StoreError as error:
            logger.warning("%s", error)
            continue
        inputs[folder] = list(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["inputs"].values())
    waiting = [folder for folder in inputs if folder.parent.name == "register"]
    needed: set[Path] = set()
    while waiting:
        folder = waiting.pop()
        if folder not in needed:
            needed.add(folder)
            waiting.extend(origin for digest in inputs[folder] for origin in made.get(digest, []))
    # a report on a corpus stands beside the chain: it is nobody's input
    corpora = {digest for digest, folders in made.items() if needed & set(folders)}
    needed |= {
        folder for folder, origins in inputs.items() if folder.parent.name == "validate" and corpora & set(origins)
    }
    return needed
