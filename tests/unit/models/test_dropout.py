"""Dropout that draws from a generator of the thread's own, or as PyTorch does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from unroll.models.dropout import Dropout, drawing_from, random_mask


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_a_generator_it_is_pytorchs_own_bit_for_bit() -> None:
    ones = torch.ones(50, 8)
    torch.manual_seed(3)
    expected = nn.Dropout(0.3)(ones)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.3)(ones), expected)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_a_generator_decides_the_mask_and_the_mean_stays(p: float) -> None:
    ones, dropout = torch.ones(400, 100), Dropout(p)
    with drawing_from(seeded(1)):
        first = dropout(ones)
    with drawing_from(seeded(1)):
        assert torch.equal(dropout(ones), first)
    with drawing_from(seeded(2)):
        assert not torch.equal(dropout(ones), first)
    assert first.unique().tolist() == [0.0, pytest.approx(1 / (1 - p))]
    assert first.mean().item() == pytest.approx(1, abs=5 * (p / (1 - p) / 40_000) ** 0.5)


def test_a_generator_leaves_pytorchs_own_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with drawing_from(seeded(1)):
        Dropout(0.5)(torch.ones(10))
        random_mask(torch.ones(10), 0.5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_is_kept_or_dropped_at_the_ends(p: float) -> None:
    with drawing_from(seeded(1)):
        assert torch.equal(Dropout(p)(torch.ones(10)), torch.full((10,), 1 - p))


def test_nothing_is_dropped_in_evaluation() -> None:
    with drawing_from(seeded(1)):
        assert torch.equal(Dropout(0.5).eval()(torch.ones(10)), torch.ones(10))


def test_gradients_pass_where_values_did() -> None:
    values = torch.ones(20, requires_grad=True)
    with drawing_from(seeded(1)):
        dropped = Dropout(0.5)(values)
    dropped.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, dropped.detach())


def test_threads_at_the_same_time_draw_each_from_its_own() -> None:
    ones, dropout = torch.ones(1_000), Dropout(0.5)

    def masks(seed: int) -> list[Tensor]:
        with drawing_from(seeded(seed)):
            return [dropout(ones) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(masks, [1, 2, 1, 3]))
    alone = {seed: masks(seed) for seed in (1, 2, 3)}
    for seed, of_thread in zip([1, 2, 1, 3], together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(of_thread, alone[seed], strict=True))


def test_a_random_mask_has_the_probability_asked_for() -> None:
    with drawing_from(seeded(1)):
        mask = random_mask(torch.zeros(200, 200, dtype=torch.int64), 0.25)
    assert mask.dtype == torch.bool
    assert mask.float().mean().item() == pytest.approx(0.25, abs=0.01)
