"""Clipping does what chapter 15 says, and tells the norm from before."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.config import TrainingConfig
from unroll.training.gradients import clip_gradients, coalesce_rows

entries = st.lists(st.floats(-1e3, 1e3, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=2, max_size=8)


def parameters_with(gradient: list[float]) -> list[nn.Parameter]:
    """Two parameters that share the entries, and one without a gradient."""
    half = len(gradient) // 2
    parameters = [nn.Parameter(torch.zeros(half)), nn.Parameter(torch.zeros(len(gradient) - half))]
    for parameter, part in zip(parameters, (gradient[:half], gradient[half:]), strict=True):
        parameter.grad = torch.tensor(part)
    return [*parameters, nn.Parameter(torch.zeros(3))]


def gradient_of(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None])


@given(gradient=entries, threshold=st.floats(0.01, 100))
def test_clipping_by_norm_keeps_the_direction_and_bounds_the_norm(gradient: list[float], threshold: float) -> None:
    parameters = parameters_with(gradient)
    norm, clipped = clip_gradients(parameters, TrainingConfig(clip="norm", max_gradient_norm=threshold))
    expected = math.sqrt(sum(x * x for x in gradient))
    assert norm.item() == pytest.approx(expected, rel=1e-5)
    if not math.isclose(expected, threshold, rel_tol=1e-5):
        assert clipped == (expected > threshold)
    scale = min(1.0, threshold / expected) if expected else 1.0
    torch.testing.assert_close(gradient_of(parameters), torch.tensor(gradient) * scale, rtol=1e-3, atol=1e-6)


@given(gradient=entries, threshold=st.floats(0.01, 100))
def test_clipping_by_value_bounds_each_entry(gradient: list[float], threshold: float) -> None:
    parameters = parameters_with(gradient)
    norm, clipped = clip_gradients(parameters, TrainingConfig(clip="value", max_gradient_value=threshold))
    assert norm.item() == pytest.approx(math.sqrt(sum(x * x for x in gradient)), rel=1e-5)
    if not any(math.isclose(abs(x), threshold, rel_tol=1e-5) for x in gradient):
        assert clipped == any(abs(x) > threshold for x in gradient)
    torch.testing.assert_close(gradient_of(parameters), torch.tensor(gradient).clamp(-threshold, threshold))


@given(gradient=entries)
def test_no_clipping_leaves_every_entry(gradient: list[float]) -> None:
    parameters = parameters_with(gradient)
    norm, clipped = clip_gradients(parameters, TrainingConfig(clip="none"))
    assert norm.item() == pytest.approx(math.sqrt(sum(x * x for x in gradient)), rel=1e-5)
    assert not clipped
    assert torch.equal(gradient_of(parameters), torch.tensor(gradient))


@pytest.mark.parametrize("clip", ["norm", "value", "none"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_norm_tells_of_a_single_non_finite_entry(clip: str, bad: float) -> None:
    norm, _clipped = clip_gradients(parameters_with([1.0, bad, 2.0]), TrainingConfig.model_validate({"clip": clip}))
    assert not math.isfinite(norm.item())


ROWS = st.lists(st.integers(0, 4), max_size=12)


def sparse_gradient(rows: list[int]) -> Tensor:
    values = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(1))
    return torch.sparse_coo_tensor(torch.tensor([rows], dtype=torch.int64), values, (5, 3), check_invariants=True)


@given(rows=ROWS)
def test_rows_are_added_up_as_pytorch_does(rows: list[int]) -> None:
    gradient = sparse_gradient(rows)
    ours, theirs = coalesce_rows(gradient), gradient.coalesce()
    assert ours.is_coalesced()
    assert torch.equal(ours.indices(), theirs.indices())
    torch.testing.assert_close(ours.values(), theirs.values())


def test_a_gradient_of_distinct_rows_is_left_as_it_is() -> None:
    gradient = sparse_gradient([3, 1, 1]).coalesce()
    assert coalesce_rows(gradient) is gradient


@given(rows=ROWS, clip=st.sampled_from(["norm", "value", "none"]))
def test_sparse_gradients_are_clipped_as_dense_ones(rows: list[int], clip: str) -> None:
    config = TrainingConfig.model_validate({"clip": clip, "max_gradient_norm": 0.5, "max_gradient_value": 0.3})
    sparse, dense = [nn.Parameter(torch.zeros(5, 3)) for _ in range(2)]
    other = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    sparse.grad, dense.grad = sparse_gradient(rows), sparse_gradient(rows).to_dense()
    for parameter in other:
        parameter.grad = torch.tensor([0.1, -2.0])
    norm, clipped = clip_gradients([sparse, other[0]], config)
    expected_norm, expected_clipped = clip_gradients([dense, other[1]], config)
    torch.testing.assert_close(norm, expected_norm)
    assert clipped == expected_clipped
    torch.testing.assert_close(sparse.grad.to_dense(), dense.grad)
    torch.testing.assert_close(other[0].grad, other[1].grad)
