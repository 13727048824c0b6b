"""What the pages say was measured is what was recorded, and keeps the promises of the chapter's presets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from benchmarks.book import RESULTS, RUNS, markdown
from benchmarks.report import number
from benchmarks.run import RESULTS as BENCH_RESULTS
from benchmarks.serving import RESULTS as SERVING_RESULTS
from benchmarks.serving import table as serving_table

ROOT = Path(__file__).parents[2]
IN_THE_README = (
    ("sentiment", "unroll over the chapter's way"),
    ("language-model", "unroll, bfloat16, over the chapter's way"),
    ("generation", "unroll, 1 text, over the chapter's way"),
    ("generation", "unroll, 64 texts, over the chapter's way"),
    ("preparation", "unroll, ids on disk, over the chapter's way"),
    ("scoring", "book: unroll over the plain way"),
    ("peak-memory", "peak memory of training on 1,000 MB, MiB"),
    ("peak-memory", "peak memory of training on 2,000 MB, MiB"),
    ("cached-flow", "unroll run on kept stages, seconds"),
    ("cached-flow", "unroll run, running servers, seconds"),
    ("start-up", "unroll --help, seconds"),
)
"""Promises of `make bench` whose medians stand in the README, in its order."""


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    recorded: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return recorded


def test_every_run_of_the_chapters_presets_is_recorded(rows: list[dict[str, Any]]) -> None:
    assert [(row["project"], row["preset"], row["seed"]) for row in rows] == list(RUNS)
    assert len({row["mlflow_run_id"] for row in rows}) == len(rows)


def test_the_results_page_shows_the_recorded_rows(rows: list[dict[str, Any]]) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in markdown(rows) if line not in page] == []


@pytest.mark.parametrize("preset", ["book", "book_bidirectional"])
def test_mean_accuracy_with_the_chapters_settings_is_near_the_books(preset: str, rows: list[dict[str, Any]]) -> None:
    accuracies = [row["test/accuracy"]["value"] for row in rows if _is(row, "sentiment", preset)]
    assert len(accuracies) == 3
    assert 0.845 <= mean(accuracies) <= 0.885
    for shown in (mean(accuracies), min(accuracies), max(accuracies)):
        assert f"{shown:.3f}" in _front_page()


def test_training_loss_with_the_chapters_settings_is_near_the_books(rows: list[dict[str, Any]]) -> None:
    (row,) = [row for row in rows if _is(row, "language-model", "book")]
    assert row["train_loss"] <= 1.15
    assert f"{row['train_loss']:.2f}" in _front_page()
    assert f"{row['test/bits_per_char']['value']:.3f}" in _front_page()


def test_the_serving_page_shows_what_the_load_test_recorded() -> None:
    recorded = json.loads(SERVING_RESULTS.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in serving_table(recorded) if line not in page] == []
    assert (recorded["crowd"]["errors"], recorded["crowd"]["lost"], recorded["crowd"]["swaps"]) == (0, 0, 2)
    assert recorded["crowd"]["seconds"] >= 60
    assert all(row["p50_ms"] < 10 for row in recorded["alone"].values())


def _is(row: Mapping[str, Any], project: str, preset: str) -> bool:
    return (row["project"], row["preset"]) == (project, preset)


def _front_page() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readmes_speed_table_is_the_recorded_run() -> None:
    bench = json.loads((BENCH_RESULTS / "bench.json").read_text(encoding="utf-8"))
    assert not bench["quick"]
    assert bench["real_corpora"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme[readme.index("Medians of one run on two quiet cores") : readme.index("Where it comes from: reviews")]
    stated = re.findall(r"\*\*([\d.,]+)\*\*", table)
    promises = {(row["name"], promise["what"]): promise for row in bench["rows"] for promise in row["promises"]}
    expected = [number(promises[key]["ratio"]["median"]) for key in IN_THE_README]
    assert stated == expected
    missed = [key for key in IN_THE_README if promises[key]["kept"] is False]
    assert table.count("not reached") == len(missed), missed


def test_the_readmes_rows_of_a_gpu_are_recorded_ones() -> None:
    section = _front_page().split("### On a GPU\n")[1].split("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    recorded = (BENCH_RESULTS / "gpu-h100.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) > 2
    assert [row for row in rows if row not in recorded] == []
