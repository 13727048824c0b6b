"""The store's copy of the ledgers: `store/ledger/<model>.jsonl`, a line for each entry, only ever appended to.

The registry decides; the copy tells when somebody has changed or deleted what was decided there. It catches up with
whatever entries it lacks, so a kill between the registry's append and the copy's loses nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.tracked_run import without_password
from unroll.evaluation.decisions import Entry
from unroll.files import writing

FOLDER = "ledger"


class LedgerCopy:
    """Copies of the ledgers of one registry below a store's folder."""

    def __init__(self, store_root: Path, tracking_uri: str) -> None:
        """Nothing is read or written yet."""
        self._folder = store_root / FOLDER
        self._registry = without_password(tracking_uri)

    def catch_up(self, name: str, entries: Sequence[Entry]) -> list[str]:
        """Append the entries that the copy lacks; returns, in words, where the registry no longer holds what is copied.

        Raises StoreError: the disk is full, or the folder cannot be written.
        """
        from filelock import FileLock

        path = self._folder / f"{name}.jsonl"
        with writing(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock"), timeout=60):
                copied = self._read(path)
                fresh = [entry for entry in entries if entry.id not in copied]
                self._append(path, fresh)
        return _differences(copied, {entry.id: asdict(entry) for entry in entries})

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        """Copied entries of this registry by id. A last line that a kill cut short is passed over, and written anew."""
        if not path.exists():
            return {}
        copied = {}
        for line in path.read_bytes().split(b"\n"):
            try:
                plain = json.loads(line)
            except ValueError:
                continue
            if plain.pop("registry", None) == self._registry:
                copied[plain["id"]] = plain
        return copied

    def _append(self, path: Path, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        lines = [
            json.dumps({"registry": self._registry, **asdict(entry)}, ensure_ascii=False, sort_keys=True)
            for entry in entries
        ]
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # a kill cut the last line short; it stays as it is
                    lines.insert(0, "")
            file.write(("\n".join(lines) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


def _differences(copied: dict[str, dict[str, Any]], there: dict[str, dict[str, Any]]) -> list[str]:
    words = []
    for entry_id, ours in copied.items():
        theirs = there.get(entry_id)
        if theirs is None:
            words.append(f"entry {ours['number']} ({ours['verdict']} version {ours['version']}) was deleted")
        elif json.loads(json.dumps(theirs)) != ours:
            names = [name for name in ours if ours[name] != theirs.get(name)]
            words.append(f"entry {ours['number']} was changed: {', '.join(names)}")
    return words
