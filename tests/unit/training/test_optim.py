"""Schedules have the shape that the settings promise; optimizers decay matrices and no biases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unroll.config import TrainingConfig
from unroll.training.optim import learning_rate_at, make_optimizer

SCHEDULES = ["constant", "cosine", "one_cycle"]


def config(**settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"learning_rate": 0.5, **settings})


@pytest.mark.parametrize(("schedule", "first"), [("constant", 0.5), ("cosine", 0.0), ("one_cycle", 0.5 * 0.04)])
def test_schedules_start_where_they_say(schedule: str, first: float) -> None:
    assert learning_rate_at(0.0, config(schedule=schedule, warmup_fraction=0.2)) == pytest.approx(first)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.9])
def test_schedules_peak_at_the_learning_rate(schedule: str, warmup: float) -> None:
    assert learning_rate_at(warmup, config(schedule=schedule, warmup_fraction=warmup)) == pytest.approx(0.5)


@pytest.mark.parametrize(("schedule", "last"), [("constant", 0.5), ("cosine", 0.005), ("one_cycle", 0.005)])
@pytest.mark.parametrize("progress", [1.0, 1.5])
def test_schedules_end_at_a_hundredth_of_the_peak_and_stay_there(schedule: str, last: float, progress: float) -> None:
    assert learning_rate_at(progress, config(schedule=schedule)) == pytest.approx(last)


@given(
    schedule=st.sampled_from(SCHEDULES),
    warmup=st.floats(0, 0.99),
    places=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_rates_stay_within_bounds_rise_before_the_peak_and_fall_after(
    schedule: str, warmup: float, places: list[float]
) -> None:
    settings = config(schedule=schedule, warmup_fraction=warmup)
    before, after = (learning_rate_at(place, settings) for place in places)
    assert 0 <= before <= 0.5 * (1 + 1e-12)
    if places[1] < warmup:
        assert before <= after + 1e-12
    if places[0] >= warmup:
        assert before >= after - 1e-12


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_optimizer_is_the_one_asked_for(name: str, kind: type[torch.optim.Optimizer]) -> None:
    assert type(make_optimizer(nn.Linear(2, 2), config(optimizer=name))) is kind


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_matrices_decay_and_biases_do_not(name: str) -> None:
    model = nn.LSTM(2, 3)
    optimizer = make_optimizer(model, config(optimizer=name, weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {key: decays[id(p)] for key, p in model.named_parameters()} == {
        key: 0.1 if key.startswith("weight") else 0.0 for key, _ in model.named_parameters()
    }


def test_decoupled_decay_shrinks_a_matrix_without_any_gradient() -> None:
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, config(optimizer="adamw", weight_decay=0.1)).step()
    assert model.weight.item() == pytest.approx(1 - 0.5 * 0.1)
    assert model.bias.item() == 1.0


def test_sgd_uses_nesterov_momentum_only_where_there_is_momentum() -> None:
    assert make_optimizer(nn.Linear(1, 1), config(optimizer="sgd", betas=(0.9, 0.999))).param_groups[0]["nesterov"]
    assert not make_optimizer(nn.Linear(1, 1), config(optimizer="sgd", betas=(0.0, 0.0))).param_groups[0]["nesterov"]
