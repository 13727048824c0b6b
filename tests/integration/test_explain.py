"""``unroll explain`` as a user runs it, and the comparison of remedies in MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tasks.remedies import PARENT_TAG, track_comparison
from tasks.tracking import CHAPTER_EXPERIMENT
from tests.command import Command
from unroll.chapter.comparison import all_trials, draw_comparison
from unroll.chapter.remedies import Outcome, Trial

TRIALS = all_trials(lengths=(8,), steps=20)[:4]


@pytest.mark.slow
def test_a_section_is_printed_and_drawn_below_the_working_folder(tmp_path: Path) -> None:
    answer = Command(tmp_path)("explain", "forward")
    assert answer.returncode == 0, answer.stderr
    assert "-0.8649416   0.90466356" in answer.stdout
    assert "explain forward" in answer.stderr
    figure = tmp_path / ".unroll" / "explain" / "forward.png"
    assert f"Figure: {figure}" in answer.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == [".unroll"]


@pytest.mark.slow
def test_a_figure_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    answer = Command(tmp_path)("explain", "forward", "--figures", "taken")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "taken" in answer.stderr.splitlines()[-1]


def test_an_unknown_section_is_wrong_usage(tmp_path: Path) -> None:
    answer = Command(tmp_path)("explain", "backwards")
    assert answer.returncode == 2
    assert "truncation" in answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chapter") / "mlflow.db"


@pytest.fixture
def client(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    return MlflowClient()


def outcomes(stop_after: int | None = None) -> Iterator[tuple[Trial, Outcome]]:
    for number, trial in enumerate(TRIALS):
        if number == stop_after:
            raise KeyboardInterrupt
        history = [
            {"step": step, "train/loss": 1 / step, "train/gradient_norm": float(step), "train/clipped_fraction": 0.5}
            for step in range(1, 21)
        ]
        yield trial, Outcome(0.1 * number, False, history)


def runs_of(client: MlflowClient, parent: str) -> list[Run]:
    experiment = client.get_experiment_by_name(CHAPTER_EXPERIMENT)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], f"tags.`{PARENT_TAG}` = '{parent}'"))


def test_a_comparison_is_one_parent_run_with_the_curves_in_its_children(client: MlflowClient) -> None:
    with pytest.raises(KeyboardInterrupt):
        track_comparison(TRIALS, outcomes(stop_after=2), draw_comparison)
    (killed,) = [
        run
        for run in client.search_runs([client.get_experiment_by_name(CHAPTER_EXPERIMENT).experiment_id])
        if PARENT_TAG not in run.data.tags
    ]
    assert killed.info.status == "KILLED"
    assert len(runs_of(client, killed.info.run_id)) == 2

    for _ in range(2):  # gone on with, and then all of it again
        parent, found = track_comparison(TRIALS, outcomes(), draw_comparison)
        assert parent == killed.info.run_id
        assert list(found) == TRIALS
        children = runs_of(client, parent)
        assert sorted(child.info.run_name for child in children) == sorted(str(trial) for trial in TRIALS)
        assert {child.info.status for child in children} == {"FINISHED"}
        for name in ("train/loss", "train/gradient_norm"):
            points = client.get_metric_history(children[0].info.run_id, name)
            assert sorted(point.step for point in points) == list(range(1, 21))
    assert client.get_run(parent).info.status == "FINISHED"
    assert len(client.list_artifacts(parent, "plots")) == 3
