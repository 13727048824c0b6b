from __future__ import annotations

import time
from pathlib import Path

import pytest

from unroll.data import hub
from unroll.data.downloads import TransientError
from unroll.data.hub import load_splits
from unroll.errors import DataError


def test_only_network_faults_are_worth_another_try() -> None:
    assert hub._describe(ConnectionError("reset"))["transient"]
    assert hub._describe(TimeoutError("slow"))["transient"]
    assert not hub._describe(ValueError("no such split"))["transient"]
    assert isinstance(hub._as_error("x", hub._describe(ConnectionError("reset"))), TransientError)
    assert isinstance(hub._as_error("x", hub._describe(FileNotFoundError("gone"))), DataError)


def test_a_full_disk_is_told_as_such() -> None:
    error = hub._as_error("x", hub._describe(OSError(28, "No space left on device")))
    assert isinstance(error, OSError)
    assert error.errno == 28


def test_offline_by_setting_a_hub_name_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    started = time.perf_counter()
    with pytest.raises((DataError, TransientError), match="cannot be loaded through datasets"):
        load_splits("stanfordnlp/imdb", ("text", "label"), tmp_path / "scratch")
    assert time.perf_counter() - started < 20


def test_a_child_that_dies_is_an_error_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    with pytest.raises(DataError, match="exit code 1"):
        load_splits(str(tmp_path), ("text", "label"), tmp_path / "scratch")
