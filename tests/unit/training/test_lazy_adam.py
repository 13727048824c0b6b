"""Adam that moves only a batch's rows ends where dense Adam does, and goes on from a saved state in the same bits."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.training.lazy_adam import SWEEP_STEPS, LazyAdam

ROWS, COLUMNS = 60, 3


def gradients(steps: int, seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Iterator[Tensor]:
    """Sparse ones: a few common rows in each step, some of them twice, and rarely one of the others."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        common = torch.randint(0, 4, (5,), generator=generator)
        rare = torch.randint(4, ROWS, (1,), generator=generator)
        values = scale * torch.randn(6, COLUMNS, generator=generator, dtype=dtype)
        yield torch.sparse_coo_tensor(torch.cat([common, rare])[None], values, (ROWS, COLUMNS), check_invariants=True)


def matrix(dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(9), dtype=dtype))


def train(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: Iterator[Tensor], dense: bool) -> None:
    for number, gradient in enumerate(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + number % 50 / 50)  # as a schedule would
        parameter.grad = gradient.to_dense() if dense else gradient
        optimizer.step()


@settings(max_examples=8)
@example(steps=2 * SWEEP_STEPS + 3, seed=1, betas=(0.9, 0.999), weight_decay=0.1)
@given(
    steps=st.integers(1, SWEEP_STEPS),
    seed=st.integers(0, 1_000),
    betas=st.tuples(st.floats(0.0, 0.95), st.floats(0.98, 0.9999)),
    weight_decay=st.sampled_from([0.0, 0.1]),
)
def test_it_ends_where_dense_adam_does(steps: int, seed: int, betas: tuple[float, float], weight_decay: float) -> None:
    lazy, dense = matrix(), matrix()
    optimizer = LazyAdam([lazy], lr=0.01, betas=betas, weight_decay=weight_decay)
    train(optimizer, lazy, gradients(steps, seed), dense=False)
    optimizer.settle()
    train(
        torch.optim.AdamW([dense], lr=0.01, betas=betas, weight_decay=weight_decay),
        dense,
        gradients(steps, seed),
        dense=True,
    )
    torch.testing.assert_close(lazy, dense, rtol=1e-5, atol=1e-5)


def test_small_gradients_move_rows_as_far_to_a_hundredth() -> None:
    """Where sqrt(v) comes near eps, what a row has missed is an approximation."""
    lazy, dense, start = matrix(), matrix(), matrix()
    optimizer = LazyAdam([lazy], lr=0.01)
    train(optimizer, lazy, gradients(500, 1, scale=1e-4), dense=False)
    optimizer.settle()
    train(torch.optim.AdamW([dense], lr=0.01, weight_decay=0), dense, gradients(500, 1, scale=1e-4), dense=True)
    typical_way = (dense - start).abs().mean()
    assert (lazy - dense).abs().max() < 0.01 * typical_way


def test_rows_that_wait_are_not_touched_before_they_come_up_or_are_settled() -> None:
    parameter, start = matrix(), matrix()
    optimizer = LazyAdam([parameter], lr=0.01)
    train(optimizer, parameter, gradients(20, 5), dense=False)
    seen = torch.cat([gradient.coalesce().indices()[0] for gradient in gradients(20, 5)]).unique()
    unseen = [row for row in range(ROWS) if row not in seen]
    optimizer.settle()
    assert unseen
    assert torch.equal(parameter[unseen], start[unseen])
    assert (parameter[seen] != start[seen]).all()


def test_settling_twice_changes_nothing() -> None:
    parameter = matrix()
    optimizer = LazyAdam([parameter], lr=0.01, weight_decay=0.1)
    train(optimizer, parameter, gradients(20, 5), dense=False)
    optimizer.settle()
    once = parameter.detach().clone()
    optimizer.settle()
    assert torch.equal(parameter, once)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps_before", [1, SWEEP_STEPS - 1, SWEEP_STEPS, SWEEP_STEPS + 7])
def test_a_saved_state_goes_on_in_the_same_bits(dtype: torch.dtype, steps_before: int) -> None:
    straight = matrix(dtype)
    optimizer = LazyAdam([straight], lr=0.01)
    steps = list(gradients(steps_before + 40, 2, dtype=dtype))
    train(optimizer, straight, iter(steps[:steps_before]), dense=False)

    resumed = nn.Parameter(straight.detach().clone())
    other = LazyAdam([resumed], lr=0.5)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, straight, iter(steps[steps_before:]), dense=False)
    train(other, resumed, iter(steps[steps_before:]), dense=False)
    optimizer.settle()
    other.settle()
    assert torch.equal(straight, resumed)


def test_dense_gradients_and_closures_are_refused_in_words() -> None:
    parameter = matrix()
    optimizer = LazyAdam([parameter], lr=0.01)
    parameter.grad = torch.ones(ROWS, COLUMNS, dtype=torch.float64)
    with pytest.raises(ValueError, match="sparse=True"):
        optimizer.step()
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)


def test_a_step_without_a_gradient_does_nothing() -> None:
    parameter, start = matrix(), matrix()
    LazyAdam([parameter], lr=0.01).step()
    assert torch.equal(parameter, start)
