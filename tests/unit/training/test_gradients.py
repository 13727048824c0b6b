"""Clipping does what chapter 15 says, and tells the norm from before."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.config import TrainingConfig
from unroll.training.gradients import clip_gradients

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
