"""A comparison's trials are kept once they are done, and only whole."""

from __future__ import annotations

import multiprocessing
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from unroll.chapter import comparison
from unroll.chapter.comparison import accuracies, all_trials, draw_comparison, find_or_run, run_trials, trial_key
from unroll.chapter.long_memory import MEMORY_TASKS
from unroll.chapter.remedies import LENGTHS, REMEDIES, STEPS, Outcome, Remedy, Trial
from unroll.errors import UnrollError
from unroll.store import Store

OTHERS: dict[str, Any] = {
    **{"task": "copy", "length": 9, "remedy": REMEDIES[1], "steps": 21, "hidden_size": 7, "looks": 3, "seed": 2},
    **{"name": "x", "cell": "gru", "clip": "value", "truncate_at": 3, "optimizer": "sgd", "learning_rate": 0.5},
}
"""Another value of each field of a trial and of a remedy."""


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


class Training:
    """Stands for `run_trial`, which takes minutes; counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[Trial] = []
        self.killed = False
        monkeypatch.setattr(comparison, "run_trial", self)

    def __call__(self, trial: Trial) -> Outcome:
        self.trained.append(trial)
        if self.killed:
            raise Killed
        return outcome_of(trial)


def outcome_of(trial: Trial) -> Outcome:
    history = [{"step": 1, "train/loss": 0.1 + 0.2}, {"step": 2, "validation/loss": float("inf")}]
    return Outcome(trial.length / 1_000, False, history)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    return Training(monkeypatch)


TRIAL = Trial("adding", 8, REMEDIES[0], 20)


def test_a_trial_is_trained_once_and_its_outcome_comes_back_to_the_bit(training: Training, tmp_path: Path) -> None:
    found = [find_or_run(TRIAL, str(tmp_path / "store")) for _ in range(2)]
    assert training.trained == [TRIAL]
    assert found == [outcome_of(TRIAL)] * 2


def test_a_trial_killed_while_it_trains_leaves_nothing_and_is_trained_again(training: Training, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    training.killed = True
    with pytest.raises(Killed):
        find_or_run(TRIAL, str(store.root))
    assert store.find(trial_key(TRIAL)) is None
    assert not [path for path in store.root.rglob("*") if path.is_dir() and "partial" in path.name]
    training.killed = False
    assert find_or_run(TRIAL, str(store.root)) == outcome_of(TRIAL)


@pytest.mark.parametrize("name", [field.name for field in fields(Trial)])
def test_another_setting_is_another_trial(name: str) -> None:
    assert trial_key(replace(TRIAL, **{name: OTHERS[name]})).digest != trial_key(TRIAL).digest


@pytest.mark.parametrize("name", [field.name for field in fields(Remedy)])
def test_another_setting_of_a_remedy_is_another_trial(name: str) -> None:
    other = replace(TRIAL, remedy=replace(TRIAL.remedy, **{name: OTHERS[name]}))
    assert trial_key(other).digest != trial_key(TRIAL).digest


def test_a_trials_key_names_the_code_that_it_runs_through() -> None:
    code = trial_key(TRIAL).code
    for module in ("chapter.remedies", "chapter.long_memory", "chapter.synthetic", "training.trainer"):
        assert f"unroll.{module}" in code


def test_the_comparison_is_the_product_of_tasks_lengths_and_remedies_longest_first() -> None:
    trials = all_trials()
    wanted = {Trial(task, length, remedy, STEPS) for task in MEMORY_TASKS for length in LENGTHS for remedy in REMEDIES}
    assert (set(trials), len(trials)) == (wanted, len(wanted))
    lengths = [trial.length for trial in trials]
    assert lengths == sorted(lengths, reverse=True)
    assert {trial.length for trial in all_trials((8, 9), steps=5)} == {8, 9}
    assert {trial.steps for trial in all_trials((8, 9), steps=5)} == {5}


def test_accuracies_go_from_the_shortest_length_and_by_the_remedies_order() -> None:
    outcomes = {trial: outcome_of(trial) for trial in all_trials((50, 400, 100))}
    found = accuracies(outcomes, "adding")
    assert list(found) == [remedy.name for remedy in REMEDIES]
    assert all(list(by_length.items()) == [(50, 0.05), (100, 0.1), (400, 0.4)] for by_length in found.values())


def test_a_run_that_diverged_at_its_first_step_is_drawn_too() -> None:
    def outcome(trial: Trial) -> Outcome:
        if trial.remedy is REMEDIES[0]:
            return Outcome(0.0, True, [])
        return Outcome(0.5, False, [{"step": step, "train/loss": 0.5, "train/gradient_norm": 2.0} for step in (1, 2)])

    for name, figure in draw_comparison({trial: outcome(trial) for trial in all_trials((50, 400))}).items():
        figure.draw_without_rendering()
        assert all(axes.get_ylabel() for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()
        (legend,) = figure.legends
        first, *others = [text.get_text() for text in legend.get_texts()]
        assert first == REMEDIES[0].name + (" (diverged)" if name == "remedies_curves" else "")
        assert others == [remedy.name for remedy in REMEDIES[1:]]


@pytest.mark.slow
def test_a_comparison_that_is_stopped_goes_on_with_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "usable_cores", lambda: 1)
    trials, store = all_trials((8,), steps=10)[:3], Store(tmp_path / "store")
    running = run_trials(trials, store)
    done, _ = next(running)
    running.close()
    made = store.find(trial_key(done))
    assert made is not None
    made_at = made.folder.stat().st_mtime_ns
    assert {trial for trial, _ in run_trials(trials, store)} == set(trials)
    assert made.folder.stat().st_mtime_ns == made_at
    assert not multiprocessing.active_children()


def test_a_training_process_that_is_killed_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "usable_cores", lambda: 1)

    def kill_the_first() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.05)
        children[0].kill()

    thread = threading.Thread(target=kill_the_first)
    thread.start()
    with pytest.raises(UnrollError, match=r"A training process was killed.*finished trials are kept"):
        list(run_trials([replace(TRIAL, length=400, steps=2_000)], Store(tmp_path / "store")))
    thread.join()
