"""Temporary files of a service: in the stack's folder, and gone when the service starts again."""

from __future__ import annotations

from multiprocessing.connection import Listener
from pathlib import Path

from stack.leftovers import LONGEST_SCRATCH_PATH, fresh_scratch


def test_what_a_killed_service_left_is_removed_and_what_another_has_is_not(short_folder: Path) -> None:
    scratch, others = fresh_scratch(short_folder, "worker"), fresh_scratch(short_folder, "serve")
    assert scratch is not None
    assert others is not None
    (scratch / "prefect-workspace-attempt-1").mkdir()
    (scratch / "runner_storage" / "1").mkdir(parents=True)
    (others / "kept").touch()
    assert fresh_scratch(short_folder, "worker") == scratch
    assert list(scratch.iterdir()) == []
    assert list(others.iterdir()) == [others / "kept"]
    assert scratch.stat().st_mode & 0o077 == 0


def test_sockets_of_multiprocessing_fit_below_it_or_it_is_not_used(short_folder: Path) -> None:
    named = len(str(short_folder / "tmp" / "worker"))
    deep = short_folder / ("x" * (LONGEST_SCRATCH_PATH - named - 1))
    scratch = fresh_scratch(deep, "worker")
    assert scratch is not None
    assert len(str(scratch)) == LONGEST_SCRATCH_PATH
    below = scratch / "pymp-12345678"
    below.mkdir()
    Listener(str(below / "listener-12345678"), family="AF_UNIX").close()
    assert fresh_scratch(short_folder / ("x" * 80), "worker") is None
