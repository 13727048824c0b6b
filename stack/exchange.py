"""A folder's entries exchanged for others, and back again, from wherever a kill or a power cut left it.

The folder may be a mount, which cannot be renamed, so its entries are, one by one. Beside them is a scratch folder:

    artifacts/    the new entries, while what is in the folder is old
    incoming/     the same under another name, once every old entry is out: what is in the folder now is new
    old/          the old entries

So that it can always be told which entry is which, the one rename from `artifacts` to `incoming` stands between the
moves out and the moves in, and each side of it is on the disk before the next begins.
"""

from __future__ import annotations

from pathlib import Path

from stack.vault import children
from unroll.files import sync_path, writing

NEW = "artifacts"
INCOMING = "incoming"
OLD = "old"


def prepare(scratch: Path) -> None:
    """Make what is not there yet of a scratch folder."""
    for name in (NEW, OLD):
        (scratch / name).mkdir(exist_ok=True)


def exchange(folder: Path, scratch: Path) -> None:
    """Give ``folder`` the new entries of ``scratch``; its own go there. `undo` is for what a failure leaves."""
    with writing(folder):
        _move(folder, scratch / OLD)
        _rename(scratch / NEW, scratch / INCOMING)
        _move(scratch / INCOMING, folder)


def undo(folder: Path, scratch: Path) -> None:
    """Bring back what `exchange` moved, whole or in part; nothing happens if it moved nothing."""
    with writing(folder):
        if (scratch / INCOMING).exists():
            _move(folder, scratch / INCOMING)
            _rename(scratch / INCOMING, scratch / NEW)
        _move(scratch / OLD, folder)


def _move(source: Path, target: Path) -> None:
    """Move every entry, and see to it that this is on the disk."""
    for child in children(source):
        child.rename(target / child.name)
    sync_path(target)
    sync_path(source)


def _rename(before: Path, after: Path) -> None:
    before.rename(after)
    sync_path(after.parent)
