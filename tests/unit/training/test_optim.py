"""Schedules have the shape that the settings promise; optimizers decay matrices and no biases."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unroll.config import TrainingConfig
from unroll.training.lazy_adam import LazyAdam
from unroll.training.optim import learning_rate_at, make_optimizers

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
    assert [type(each) for each in make_optimizers(nn.Linear(2, 2), config(optimizer=name))] == [kind]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_matrices_decay_and_biases_do_not(name: str) -> None:
    model = nn.LSTM(2, 3)
    (optimizer,) = make_optimizers(model, config(optimizer=name, weight_decay=0.1))
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
    make_optimizers(model, config(optimizer="adamw", weight_decay=0.1))[0].step()
    assert model.weight.item() == pytest.approx(1 - 0.5 * 0.1)
    assert model.bias.item() == 1.0


def test_sgd_uses_nesterov_momentum_only_where_there_is_momentum() -> None:
    for momentum in (0.9, 0.0):
        (optimizer,) = make_optimizers(nn.Linear(1, 1), config(optimizer="sgd", betas=(momentum, 0.999)))
        assert optimizer.param_groups[0]["nesterov"] == (momentum > 0)


class Tied(nn.Module):
    """An embedding whose weights are an output layer's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50_000, 10)
        self.output = nn.Linear(10, 50_000)
        self.output.weight = self.embedding.weight


@pytest.mark.parametrize(
    ("model", "settings", "lazy"),
    [
        (nn.Embedding(50_000, 10), {}, True),
        (nn.Embedding(50_000, 10), {"weight_decay": 0.1}, True),
        (nn.Embedding(50_000, 10), {"optimizer": "adam"}, True),
        (nn.Embedding(50_000, 10), {"optimizer": "adam", "weight_decay": 0.1}, False),
        (nn.Embedding(50_000, 10), {"optimizer": "sgd"}, False),
        (nn.Embedding(5_000, 10), {}, False),
        (Tied(), {}, False),
    ],
)
def test_a_large_embedding_is_moved_lazily_where_that_gives_the_same(
    model: nn.Module, settings: dict[str, object], lazy: bool
) -> None:
    optimizers = make_optimizers(nn.ModuleList([model, nn.Linear(2, 2)]), config(**settings))
    embedding = model.embedding if isinstance(model, Tied) else model
    assert [isinstance(optimizer, LazyAdam) for optimizer in optimizers] == [False, True][: 1 + lazy]
    assert embedding.sparse == lazy
    if lazy:
        assert optimizers[1].param_groups[0]["weight_decay"] == settings.get("weight_decay", 0.0)
        assert all(embedding.weight is not p for group in optimizers[0].param_groups for p in group["params"])
