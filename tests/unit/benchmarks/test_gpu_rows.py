"""``make bench-gpu`` measures what there is within its time; here, the CPU at tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu_rows", "--device", "cpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.slow
def test_a_quick_run_measures_and_says_what_it_left_out(tmp_path: Path) -> None:
    done = run("--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert content["machine"]["card"] == "no GPU: CPU"
    rows = {(row["row"], row["shape"], row["precision"]) for row in content["rows"]}
    assert ("training text", "book", "bfloat16") in rows
    assert all(0 < row["lowest"] <= row["median"] <= row["highest"] for row in content["rows"])
    assert all(name in done.stdout for name in content["not_measured"])


def test_without_time_nothing_is_begun_and_that_is_a_failure(tmp_path: Path) -> None:
    done = run("--seconds", "0", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "not measured: training text, book, float32" in done.stdout
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rows"] == []


def test_unroll_trains_there_without_prefect_and_mlflow() -> None:
    code = "import sys, benchmarks.gpu_rows; print({'prefect', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
