"""``unroll explain`` as a user runs it, and the comparison of remedies in MLflow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tasks.owner import PID_TAG
from tasks.remedies import PARENT_TAG, track_comparison
from tasks.tracking import CHAPTER_EXPERIMENT, sweep_dead_runs
from tests.command import CALL_MAIN, Command
from unroll.chapter.comparison import all_trials, draw_comparison
from unroll.chapter.remedies import REMEDIES, Outcome, Trial, run_trial
from unroll.config import flatten

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


@pytest.mark.parametrize("figures", ["taken", "taken/below", "full"])
def test_figures_that_have_no_place_are_wrong_usage_before_anything_is_run(figures: str, command: Command) -> None:
    (command.folder / "taken").write_text("a file", encoding="utf-8")
    (command.folder / "full" / "forward.png").mkdir(parents=True)
    answer = command("explain", "forward", "--figures", figures)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"Error: --figures {figures}: ")
    assert answer.stderr.count("\n") == 1
    assert answer.stdout == ""
    assert not command.home.exists()


SMALL_REMEDIES = """
import unroll.chapter.comparison as comparison
every = comparison.all_trials
comparison.all_trials = lambda: [trial for trial in every((8,), steps=10) if trial.task == "adding"]
"""


@pytest.mark.slow
def test_figures_go_where_they_are_asked_for_and_nothing_to_the_home_folder(command: Command) -> None:
    home = Path(os.environ["HOME"])
    before = sorted(home.rglob("*"))
    answer = command("explain", "bptt", "--figures", "pictures/new")
    assert answer.returncode == 0, answer.stderr
    assert "Figure: pictures/new/bptt.png" in answer.stdout
    assert (command.folder / "pictures/new/bptt.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in command.folder.iterdir()) == [".unroll", "pictures"]
    assert not (command.home / "mlflow.db").exists()
    assert sorted(home.rglob("*")) == before


@pytest.mark.slow
def test_remedies_are_compared_in_one_run_and_a_second_time_taken_from_the_store(command: Command) -> None:
    first, second = (command.python(SMALL_REMEDIES + CALL_MAIN, "explain", "remedies") for _ in range(2))
    for answer in (first, second):
        assert answer.returncode == 0, answer.stderr
        assert all(remedy.name in answer.stdout for remedy in REMEDIES)
        assert "trial 6 of 6" in answer.stderr
    (run_line,) = [line for line in first.stdout.splitlines() if line.startswith("MLflow run ")]
    assert second.stdout == first.stdout
    made = [Path(line.removeprefix("Figure: ")) for line in first.stdout.splitlines() if line.startswith("Figure: ")]
    assert {path.parent for path in made} == {command.home / "explain"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)
    client = MlflowClient(f"sqlite:///{command.home}/mlflow.db")
    children = runs_of(client, run_line.split()[2].rstrip(";"))
    assert sorted(child.info.run_name for child in children) == sorted(
        str(trial) for trial in all_trials((8,), steps=10) if trial.task == "adding"
    )
    assert [path.name for path in command.folder.iterdir()] == [".unroll"]


def test_an_unknown_section_is_wrong_usage(tmp_path: Path) -> None:
    answer = Command(tmp_path)("explain", "backwards")
    assert answer.returncode == 2
    for section in ("forward", "bptt", "gradients", "clipping", "truncation", "tasks", "remedies"):
        assert f"'{section}'" in answer.stderr
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


def curve_of(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, name))


def test_a_childs_curves_and_settings_are_the_trials_however_often_it_is_recorded(client: MlflowClient) -> None:
    trials = [Trial("adding", 8, remedy, steps=20, hidden_size=5, looks=4) for remedy in (REMEDIES[0], REMEDIES[2])]
    trained = [(trial, run_trial(trial)) for trial in trials]
    # the trials come as they get done, so in another order each time
    parents = {track_comparison(trials, order, draw_comparison)[0] for order in (trained, trained[::-1])}
    parents |= {track_comparison(trials[::-1], trained, draw_comparison)[0]}
    (parent,) = parents
    children = {child.info.run_name: child for child in runs_of(client, parent)}
    assert len(children) == 2
    for trial, outcome in trained:
        child = children[str(trial)]
        for name in ("train/loss", "train/gradient_norm", "train/clipped_fraction", "validation/accuracy"):
            expected = [(point["step"], point[name]) for point in outcome.history if name in point]
            assert len(expected) == (4 if name.startswith("validation") else 20)
            assert curve_of(client, child.info.run_id, name) == expected
        assert curve_of(client, child.info.run_id, "accuracy") == [(0, outcome.accuracy)]
        assert child.data.params["remedy.clip"] == trial.remedy.clip
        assert child.data.params["length"] == "8"
        assert child.data.tags["unroll.diverged"] == "false"


def test_another_choice_of_trials_is_another_comparison(client: MlflowClient) -> None:
    def made(trials: list[Trial]) -> str:
        known = dict(outcomes())
        return track_comparison(trials, [(trial, known[trial]) for trial in trials], draw_comparison)[0]

    small, large = made(TRIALS[:2]), made(TRIALS[:3])
    assert small != large
    assert (len(runs_of(client, small)), len(runs_of(client, large))) == (2, 3)


def test_a_run_that_diverged_says_so_and_keeps_what_was_no_number(client: MlflowClient) -> None:
    history = [
        {"step": 1, "train/loss": 2.0, "train/gradient_norm": 9.0},
        *({"step": 1, "train/skipped_steps": number} for number in (1, 2, 3)),
        {"step": 2, "validation/loss": float("inf"), "validation/accuracy": 0.0},
    ]
    trial = TRIALS[0]
    for _ in range(2):
        parent, _found = track_comparison([trial], [(trial, Outcome(0.0, True, history))], draw_comparison)
    (child,) = runs_of(client, parent)
    assert child.data.tags["unroll.diverged"] == "true"
    assert child.info.status == "FINISHED"
    assert child.data.metrics["accuracy"] == 0.0
    assert curve_of(client, child.info.run_id, "train/skipped_steps") == [(1, 1.0), (1, 2.0), (1, 3.0)]
    assert curve_of(client, child.info.run_id, "validation/loss") == []  # MLflow cannot hold infinity


def test_a_comparison_that_failed_says_so_and_goes_on_in_the_same_run(client: MlflowClient) -> None:
    def failing() -> Iterator[tuple[Trial, Outcome]]:
        yield from list(outcomes())[3:]
        raise OSError("disk is full")

    trials = TRIALS[1:]
    with pytest.raises(OSError, match="disk is full"):
        track_comparison(trials, failing(), draw_comparison)
    parent, _found = track_comparison(trials, list(outcomes())[1:], draw_comparison)
    run = client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert "unroll.error" not in run.data.tags
    assert len(runs_of(client, parent)) == 3
    assert run.data.params == {name: str(value) for name, value in flatten({"trials": 3, "lengths": [8]}).items()}


def test_a_comparison_whose_process_died_is_swept_with_its_child(client: MlflowClient) -> None:
    parent, _found = track_comparison(TRIALS[:1], list(outcomes())[:1], draw_comparison)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = [parent, runs_of(client, parent)[0].info.run_id]
    for run_id in left:
        client.update_run(run_id, status="RUNNING")
        client.set_tag(run_id, PID_TAG, str(dead.pid))
    assert set(left) <= set(sweep_dead_runs())
    assert {client.get_run(run_id).info.status for run_id in left} == {"KILLED"}
    again, _found = track_comparison(TRIALS[:1], list(outcomes())[:1], draw_comparison)
    assert again == parent
    assert {client.get_run(run_id).info.status for run_id in left} == {"FINISHED"}
