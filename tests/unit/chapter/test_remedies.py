"""The remedies: what clipping does where gradients explode, and a comparison that keeps what is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from unroll.chapter.comparison import accuracies, all_trials, draw_comparison, run_trials, tabulate, trial_key
from unroll.chapter.long_memory import MEMORY_TASKS
from unroll.chapter.remedies import LENGTHS, MAX_GRADIENT_NORM, REMEDIES, Outcome, Remedy, Trial, run_trial
from unroll.store import Store


def exploding(clip: str) -> Trial:
    """A rectified RNN that begins at |w| = 1, with plain SGD."""
    return Trial("adding", 50, Remedy(clip, clip=clip, optimizer="sgd", learning_rate=1e-2), 150, 32, looks=1)


def losses(outcome: Outcome) -> list[float]:
    return [point["train/loss"] for point in outcome.history if "train/loss" in point]


def test_without_a_remedy_training_ends_in_what_is_no_number() -> None:
    outcome = run_trial(exploding("none"))
    assert outcome.diverged
    assert outcome.accuracy == 0


def test_clipped_by_norm_the_same_training_goes_on_and_comes_down() -> None:
    outcome = run_trial(exploding("norm"))
    assert not outcome.diverged
    assert outcome.largest("train/gradient_norm") > 1_000 * MAX_GRADIENT_NORM
    assert sum(losses(outcome)[-20:]) / 20 < 0.5 < losses(outcome)[0]


def test_the_same_trial_ends_in_the_same_curve() -> None:
    trial = Trial("copy", 12, REMEDIES[-1], steps=20, hidden_size=6, looks=2)
    first, second = run_trial(trial), run_trial(trial)
    assert losses(first) == losses(second)
    assert first.accuracy == second.accuracy


def test_a_trials_settings_reach_the_training_loop() -> None:
    config = Trial("adding", 50, Remedy("x", "gru", "value", learning_rate=0.02), steps=60, looks=3).training_config()
    assert (config.clip, config.optimizer, config.learning_rate, config.epochs) == ("value", "adam", 0.02, 3)
    assert config.max_rollbacks == 0


def test_the_comparison_tries_every_remedy_on_every_task_and_length_once() -> None:
    trials = all_trials()
    assert len(set(trials)) == len(trials) == len(LENGTHS) * len(MEMORY_TASKS) * len(REMEDIES)
    assert trials[0].length == max(LENGTHS) == 400
    assert min(LENGTHS) == 50


@pytest.mark.slow
def test_trials_that_are_done_are_not_run_again(tmp_path: Path) -> None:
    trials, store = all_trials(lengths=(8,), steps=10), Store(tmp_path / "store")
    first = dict(run_trials(trials, store))
    assert set(first) == set(trials)
    made = {trial: store.find(trial_key(trial)) for trial in trials}
    changed_at = {a.path: a.folder.stat().st_mtime_ns for a in made.values() if a is not None}
    assert len(changed_at) == len(trials)

    again = dict(run_trials(trials, store))
    assert {trial: outcome.accuracy for trial, outcome in again.items()} == {t: o.accuracy for t, o in first.items()}
    assert {path: Path(path).stat().st_mtime_ns for path in changed_at} == changed_at


def test_the_table_and_the_figures_hold_every_remedy() -> None:
    history = [{"step": 1, "train/loss": 0.5, "train/gradient_norm": 3e4}]
    outcomes = {
        trial: Outcome(0.0 if "no remedy" in trial.remedy.name else 0.75, "no remedy" in trial.remedy.name, history)
        for trial in all_trials(lengths=(50, 400))
    }
    assert accuracies(outcomes, "copy")["GRU, clipped by norm"] == {50: 0.75, 400: 0.75}
    lines = tabulate(outcomes)
    for remedy in REMEDIES:
        assert sum(line.startswith(f"{remedy.name}  ") for line in lines) == len(MEMORY_TASKS)
    assert sum("diverged (3e+04)" in line for line in lines) == len(MEMORY_TASKS)
    assert set(draw_comparison(outcomes)) == {"remedies_adding", "remedies_copy", "remedies_curves"}
