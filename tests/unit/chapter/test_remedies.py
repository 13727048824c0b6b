"""The remedies: what clipping does where gradients explode, and a comparison that keeps what is done."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unroll.chapter.comparison import accuracies, all_trials, draw_comparison, run_trials, tabulate, trial_key
from unroll.chapter.long_memory import MEMORY_TASKS
from unroll.chapter.remedies import (
    LENGTHS,
    MAX_GRADIENT_NORM,
    MAX_GRADIENT_VALUE,
    REMEDIES,
    TRUNCATE_AT,
    Outcome,
    Remedy,
    Trial,
    run_trial,
)
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


def curves(outcome: Outcome) -> list[Mapping[str, Any]]:
    """Every point but for what clocks measure."""
    return [{name: value for name, value in point.items() if "per_second" not in name} for point in outcome.history]


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)
def test_no_outcome_hangs_on_what_was_drawn_before(remedy: Remedy) -> None:
    trial = Trial("adding", 24, remedy, steps=6, hidden_size=5, looks=3)
    first = run_trial(trial)
    torch.rand(17)
    assert curves(run_trial(trial)) == curves(first)
    assert [point["step"] for point in first.history if "validation/accuracy" in point] == [2, 4, 6]
    assert curves(run_trial(replace(trial, seed=2))) != curves(first)


@pytest.mark.parametrize("clip", ["none", "norm", "value"])
def test_one_step_moves_the_weights_by_the_gradient_as_it_was_clipped(clip: str) -> None:
    trial = replace(exploding(clip), steps=1)
    problem = trial.make_problem()
    before = weights(problem.model)
    outcome = run_trial(trial, problem)
    moved = (weights(problem.model) - before) / trial.remedy.learning_rate
    told, clipped = (outcome.history[0][f"train/{name}"] for name in ("gradient_norm", "clipped_fraction"))
    assert told > 1_000 * MAX_GRADIENT_NORM  # before clipping
    assert clipped == (clip != "none")
    expected = {"none": told, "norm": MAX_GRADIENT_NORM, "value": MAX_GRADIENT_VALUE}[clip]
    assert float(moved.abs().max() if clip == "value" else moved.norm()) == pytest.approx(expected, rel=1e-3)


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])


def test_every_remedy_reads_the_same_batches() -> None:
    problems = [Trial("adding", 12, remedy).make_problem() for remedy in REMEDIES]
    for batches in islice(zip(*(problem.batches(3, 5) for problem in problems), strict=True), 2):
        assert all(torch.equal(batch.inputs, batches[0].inputs) for batch in batches)


def test_the_chapters_remedies_are_all_there_once() -> None:
    assert len({remedy.name for remedy in REMEDIES}) == len(REMEDIES)
    assert {remedy.clip for remedy in REMEDIES} == {"none", "value", "norm"}
    assert {remedy.cell for remedy in REMEDIES} == {"rnn_relu", "lstm", "gru"}
    truncated = [Trial("copy", 50, remedy).make_problem().model.truncate_at for remedy in REMEDIES]
    assert sorted(steps for steps in truncated if steps) == [TRUNCATE_AT] == [20]


def test_the_largest_of_a_metric_is_found_wherever_it_stands() -> None:
    outcome = Outcome(
        0.5, False, [{"step": 1, "a": 1.0}, {"step": 1, "b": 5.0}, {"step": 2, "a": 7}, {"step": 3, "a": 2.0}]
    )
    assert (outcome.largest("a"), outcome.largest("b"), outcome.largest("c")) == (7.0, 5.0, 0.0)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_not_finite_is_not_the_largest(bad: float) -> None:
    history = [{"step": step, "validation/loss": value} for step, value in enumerate([bad, 3.0, bad])]
    assert Outcome(0.0, True, history).largest("validation/loss") == 3.0


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


def test_steps_that_cannot_be_shared_out_among_the_looks_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of its looks, got 25 and 10"):
        run_trial(Trial("adding", 8, REMEDIES[0], steps=25, looks=10))
