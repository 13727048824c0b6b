"""``make bench-gpu`` measures what there is within its time; here, the CPU at tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_rows

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
    assert content["failed"] == []


def test_without_time_nothing_is_begun_and_that_is_a_failure(tmp_path: Path) -> None:
    done = run("--seconds", "0", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "not measured: training text, book, float32" in done.stdout
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rows"] == []


def test_what_fails_is_a_failure_and_what_there_is_no_memory_for_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lack_memory() -> gpu_rows.Measured:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def fail() -> gpu_rows.Measured:
        raise RuntimeError("no suitable name to keep")

    cells = [
        ("good", lambda: gpu_rows.Measured("training text", "book", "float32", "characters/s", 2.0, 1.0, 3.0)),
        ("large", lack_memory),
    ]
    monkeypatch.setattr(gpu_rows, "_cells", lambda scratch, device, quick: cells)
    monkeypatch.setattr(sys, "argv", ["gpu_rows", "--device", "cpu", "--out", str(tmp_path)])
    assert gpu_rows.main() == 0
    assert "not measured: large: CUDA out of memory" in capsys.readouterr().out
    cells.insert(0, ("broken", fail))
    assert gpu_rows.main() == 1
    assert "FAILED: broken: RuntimeError: no suitable name to keep" in capsys.readouterr().out
    content = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert [row["shape"] for row in content["rows"]] == ["book"]
    assert content["failed"] == ["broken: RuntimeError: no suitable name to keep"]


def test_unroll_trains_there_without_prefect_and_mlflow() -> None:
    code = "import sys, benchmarks.gpu, benchmarks.gpu_rows; print({'prefect', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
