"""``unroll clean``: drop artifacts that no kept run needs, and what killed runs left behind."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from flows.embedded import workplace
from unroll.files import writing
from unroll.store import MANIFEST

logger = logging.getLogger("unroll.clean")


def clean_store(everything: bool, dry_run: bool) -> None:
    """Remove artifacts that no registration leads to, half-made folders, and checkpoints; print what went.

    An artifact is needed while a register artifact reaches it through its inputs: a repeated run then still skips.
    """
    place = workplace()
    needed = set() if everything else _needed(place.store)
    doomed = [folder for folder in _artifacts(place.store) if folder not in needed]
    doomed += [path for path in place.store.glob("*/*/*.*-*") if path.is_dir()]
    doomed += [path for path in place.work.glob("*/*") if path.is_dir()]
    freed = 0
    for folder in doomed:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        freed += size
        print(f"{'would drop' if dry_run else 'dropped'} {folder.relative_to(place.root)} ({size / 2**20:.1f} MiB)")
        if not dry_run:
            with writing(folder):
                shutil.rmtree(folder)
    print(f"{len(doomed)} folders, {freed / 2**20:.1f} MiB; {len(needed)} artifacts kept")


def _artifacts(store: Path) -> Iterator[Path]:
    yield from (path.parent for path in sorted(store.glob(f"*/*/*/{MANIFEST}")) if "." not in path.parent.name)


def _needed(store: Path) -> set[Path]:
    """Artifacts that some register artifact reaches through its inputs."""
    from unroll.store import verify

    digests: dict[str, Path] = {}
    inputs: dict[Path, list[str]] = {}
    for folder in _artifacts(store):
        inputs[folder] = list(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["inputs"].values())
        digests[verify(folder).digest] = folder
    waiting = [folder for folder in inputs if folder.parent.name == "register"]
    needed: set[Path] = set()
    while waiting:
        folder = waiting.pop()
        if folder not in needed:
            needed.add(folder)
            waiting.extend(digests[digest] for digest in inputs[folder] if digest in digests)
    # a report on a corpus stands beside the chain: it is nobody's input
    corpora = {digest for digest, folder in digests.items() if folder in needed}
    needed |= {
        folder for folder, digest in inputs.items() if folder.parent.name == "validate" and corpora & set(digest)
    }
    return needed
