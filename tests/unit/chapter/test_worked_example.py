"""The chapter's worked example comes out as it is printed, to the last digit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unroll.chapter.worked_example import STEPS, make_layer, worked_example
from unroll.models.cells import layer_parameters

OUTPUTS = ["-0.3519801 0.52525216", "-0.68424344 0.76074266", "-0.8649416 0.90466356"]
BOOK = {
    "hidden": ["-0.4701929 0.5863904", "-0.88883156 1.2364397", "-1.3074701 1.886489"],
    "by_hand": OUTPUTS,
    "by_layer": OUTPUTS,
}
ONE_ROUNDING = 2.0**-23
"""Of a product between 1 and 2, where the weights are drawn."""


def printed(values: Tensor) -> str:
    """As NumPy prints float32 numbers."""
    return " ".join(str(value) for value in values.numpy())


@pytest.mark.parametrize("what", BOOK)
def test_each_step_prints_the_books_digits(what: str) -> None:
    steps = list(worked_example())
    assert [printed(getattr(step, what)) for step in steps] == BOOK[what]
    assert all(getattr(step, what).dtype == torch.float32 for step in steps)


def test_the_inputs_are_ones_twos_and_threes() -> None:
    assert tuple(step.value for step in worked_example()) == STEPS == (1.0, 2.0, 3.0)


def test_the_weights_are_within_a_rounding_of_those_that_pytorch_draws() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        drawn = nn.RNN(5, 2)
    torch.testing.assert_close(
        layer_parameters(make_layer()), layer_parameters(drawn), rtol=0, atol=ONE_ROUNDING, check_stride=False
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_the_example_hangs_on_no_earlier_draw(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.rand(seed)
        assert [printed(step.by_layer) for step in worked_example()] == OUTPUTS


def test_the_global_generator_is_left_as_it_was() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        before = torch.get_rng_state()
        list(worked_example())
        assert torch.equal(torch.get_rng_state(), before)
