"""Curves over size: what is fitted, what the page says, and that a point can be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks.growth.curves import CURVES, Point
from benchmarks.growth.fit import exponent, fixed_part, step_exponents
from benchmarks.growth.page import to_markdown
from benchmarks.growth.plots import draw

ROOT = Path(__file__).parents[3]
SIZES = (10, 20, 80)


def test_the_exponent_of_a_power_is_found() -> None:
    assert exponent(SIZES, [3.0 * size**1.7 for size in SIZES]) == pytest.approx(1.7)
    assert step_exponents(SIZES, [10.0, 20.0, 320.0]) == pytest.approx([1.0, 2.0])


def test_what_does_not_grow_is_where_the_line_meets_the_axis() -> None:
    assert fixed_part(SIZES, [5.0 + 2.0 * size for size in SIZES]) == pytest.approx(5.0)


def test_every_curve_has_a_module_and_sizes_that_ascend() -> None:
    for curve in CURVES.values():
        assert find_spec(curve.module) is not None
        assert list(curve.sizes) == sorted(set(curve.sizes))
        assert len(curve.sizes) >= 3
        assert len(curve.quick_sizes) == 2
    assert sum(curve.seconds for curve in CURVES.values()) <= 12 * 60


def test_a_point_travels_to_another_process_whole() -> None:
    point = Point("text-hidden", 64, "somewhere", quick=True, real_corpora=False)
    assert Point.from_json(point.to_json()) == point


def make_points(**more: float) -> list[dict[str, Any]]:
    memory = {"resident_mib": 300.0, "anonymous_mib": 200.0, "elsewhere_cores": 0.5}
    return [{"size": size, "seconds": 0.5 + 0.1 * size, "cpu_seconds": 0.2 * size, **memory, **more} for size in SIZES]


def test_the_page_shows_points_exponents_and_reasons() -> None:
    step = {"steps": 3, "tokens_per_second": 1e4, "steps_per_epoch": 9, "update_seconds": 0.3}
    of_products = {"flops": 1e9, "products_seconds": 0.5}
    curves = {
        "text-encoding": make_points(),
        "text-epoch": make_points(**step, step_seconds=0.25),
        "text-window": make_points(**step, **of_products),
    }
    machine = {"cores": 2, "cpu": "x", "torch": "2", "threads": 2, "python": "3"}
    results = {"date": "2026-01-01", "commit": "abc", "quick": True, "seconds": 60.0, "machine": machine}
    page = to_markdown({**results, "curves": curves})
    assert "| Text: encoding | characters | 0.84 | 1.00 | 300 to 300 MiB |" in page
    assert "What does not grow, by the straight line through the two smallest points: 500.0 ms, 33%" in page
    assert "Milliseconds of a step, which reads a batch whatever the corpus: 250, 250, 250" in page
    assert "(2.00 → 2.00 → 2.00 GFLOP/s; the whole step reaches 0.667 →" in page
    assert "**busy machine**: other processes took up to 0.50 cores" in page
    assert "Its figures mean nothing" in page
    assert "![Text: encoding](growth-text-encoding.png)" in page


def test_a_curve_is_drawn_also_where_the_system_tells_no_anonymous_memory(tmp_path: Path) -> None:
    for name, points in (("known", make_points()), ("unknown", [p | {"anonymous_mib": None} for p in make_points()])):
        draw(CURVES["text-window"], points, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_step_of_the_language_model_is_measured(tmp_path: Path) -> None:
    found = run_point(Point("text-window", 4, str(tmp_path), quick=True, real_corpora=False))
    assert (found["size"], found["steps"]) == (4, 3)
    assert found["flops"] == 3 * 2 * 64 * 4 * (64 * 512 + 128 * 512 + 128 * 80)
    assert all(found[name] > 0 for name in ("seconds", "cpu_seconds", "products_seconds", "update_seconds"))
    assert found["resident_mib"] > 50


@pytest.mark.slow
def test_every_curve_is_measured_and_written(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.growth", "--quick", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    results = json.loads((tmp_path / "growth.json").read_text())
    assert {name: len(points) for name, points in results["curves"].items()} == dict.fromkeys(CURVES, 2)
    assert [point["size"] for point in results["curves"]["reviews-encoding"]] == [600, 1_200]
    assert {path.name for path in tmp_path.glob("*.png")} == {f"growth-{name}.png" for name in CURVES}
    assert "Its figures mean nothing" in (tmp_path / "growth.md").read_text()


def run_point(point: Point) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.growth.point", point.to_json()]
    child = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found
