"""The row on memory: long texts, the meter, and the row itself at a small size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.long_text import write_long_text
from benchmarks.measure import Bout, Contestant, Lap
from benchmarks.peak import PeakMemory
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.report import to_markdown
from benchmarks.row import summarize

SECOND = Lap(1.0, 1.0, 0.0)


def test_a_long_text_has_its_size_and_no_two_copies_alike(tmp_path: Path) -> None:
    base = "a story that is told again and again\n" * 40
    write_long_text(tmp_path / "text.txt", 10 * len(base) + 17, 1, base)
    text = (tmp_path / "text.txt").read_text()
    assert len(text) == 10 * len(base) + 17
    copies = [text[start : start + len(base)] for start in range(0, 10 * len(base), len(base))]
    assert len(set(copies)) == 10
    assert sorted(len(line) for line in text.split("\n"))[-1] < 2 * 38
    write_long_text(tmp_path / "again.txt", 10 * len(base) + 17, 1, base)
    assert (tmp_path / "again.txt").read_text() == text


@pytest.mark.parametrize("size", range(200, 206))
def test_a_long_text_breaks_no_character(tmp_path: Path, size: int) -> None:
    write_long_text(tmp_path / "text.txt", size, 1, "ж — 😀 word, ")
    text = (tmp_path / "text.txt").read_bytes()
    assert size - 3 <= len(text) <= size
    assert set(text.decode()) <= set("ж —😀, abcdefghijklmnopqrstuvwxyz")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_meter_sees_what_was_allocated_and_freed() -> None:
    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        np.ones(8 << 20).sum()
        array = np.ones(16 << 20)
        for _ in range(20):
            array += 1.0
        del array
    assert before.anonymous is not None
    assert peak.anonymous is not None
    assert peak.resident is not None
    assert peak.anonymous >= before.anonymous + 100
    assert peak.resident >= peak.anonymous


def test_an_amount_that_is_no_rate_is_told_as_it_is() -> None:
    def never(_: int) -> Bout:
        raise AssertionError

    promises = (Promise("small", "small", at_most=1536), Promise("large over small", "large", "small", at_most=1.05))
    row = Row("MiB", "a text", (Contestant("small", "", never), Contestant("large", "", never)), promises, rounds=1)
    result = summarize(row, {"small": [Bout(400.0, SECOND)], "large": [Bout(404.0, SECOND)]})
    assert [promise["ratio"]["median"] for promise in result["promises"]] == pytest.approx([400.0, 1.01])
    assert all(promise["kept"] for promise in result["promises"])


def test_the_page_tells_the_memory_of_each_stage() -> None:
    stage = {"text": "1 MB", "stage": "train", "resident_mib": 400.4, "anonymous_mib": 300.2, "seconds": 12.3}
    row = {
        **summarize(
            Row("MiB", "a text", (Contestant("a", "", lambda _: Bout(1.0, SECOND)),), (), 1),
            {"a": [Bout(1.0, SECOND)]},
        ),
        "name": "row",
        "title": "A row",
        "load_average": {"before": [0.0], "after": [0.0]},
        "checks": {"memory_of_stages": [stage, {**stage, "anonymous_mib": None}]},
        "elsewhere_cores": 0.0,
    }
    machine = {"cores": 2, "cpu": "x", "torch": "2", "threads": 2, "python": "3"}
    results = {"date": "2026-01-01", "commit": "abc", "quick": False, "seconds": 60.0, "machine": machine}
    page = to_markdown({**results, "rows": [row]})
    assert "- 1 MB, train: 400 MiB resident, at most 300 of them not of files, 12 s." in page
    assert "an unknown part of them not of files" in page


@pytest.mark.slow
def test_training_takes_hardly_more_memory_on_twice_the_text(tmp_path: Path) -> None:
    from benchmarks.row import measure
    from benchmarks.rows.peak_memory import make_row

    row = make_row(Plan(str(tmp_path), quick=True))
    bouts, stopped = measure(row)
    small, large = (bouts[name][0].amount for name in ("1 MB", "2 MB"))
    assert not stopped
    assert 100 < small < 1_536
    assert large < 1.25 * small
    assert [stage["stage"] for stage in row.checks()["memory_of_stages"]] == ["download", "encode", "train"] * 2
    assert list(tmp_path.iterdir()) == []
