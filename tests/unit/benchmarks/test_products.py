"""The count of floating-point operations, and the products that the limits are made of."""

from __future__ import annotations

import pytest
import torch

from benchmarks.products import Product, ProductRunner, TrainingProducts, backward_products, lstm_products, total_flops


def test_a_step_of_training_takes_three_times_the_forward_products() -> None:
    batch, steps, embedding, hidden, outputs = 2, 3, 5, 7, 11
    forward = lstm_products("lm", batch, steps, embedding, hidden, outputs)
    by_hand = batch * steps * 2 * (embedding * 4 * hidden + hidden * 4 * hidden + hidden * outputs)
    assert total_flops(forward) == by_hand
    assert total_flops([*forward, *backward_products(forward)]) == 3 * by_hand


def test_the_gradient_of_a_recurrences_weights_is_one_product() -> None:
    (_, recurrence) = lstm_products("lm", 2, 3, 5, 7, None)
    _, weights = backward_products([recurrence])
    assert (weights.rows, weights.inner, weights.columns, weights.calls) == (28, 6, 7, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_runner_counts_what_it_does(dtype: torch.dtype) -> None:
    runner = ProductRunner(Product("small", 4, 8, 16, calls=3), dtype)
    assert runner.run(5) == 5 * 2 * 4 * 8 * 16
    TrainingProducts([runner.product], dtype).run(1)
