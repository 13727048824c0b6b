"""The matrix products inside both models, alone: what is left when everything else costs nothing.

A product of (M, K) by (K, N) takes 2 M K N floating-point operations, a multiplication and an addition each. A layer
with weights (N, K) does three in a step of training, of M K N multiplications each: its output, the gradient of its
inputs, and the gradient of its weights. Those of a recurrence come one a step, but for the weights' gradient: what the
steps add to it is one product of all of them. Element-wise work, look-ups, the loss and the optimizer count as
nothing, though they take time.

Dimensions: B batch, T time, E embedding, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from torch.nn.functional import linear

TRIALS = 3
"""Of each way to do a product, before the fastest is taken."""
TRIAL_FLOPS = 1e9
MOST_TRIAL_CALLS = 200


@dataclass(frozen=True)
class Product:
    """(rows, inner) by (inner, columns), some times in a step of training."""

    name: str
    rows: int
    inner: int
    columns: int
    calls: int = 1
    """Times it is done in a step."""

    @property
    def flops(self) -> int:
        """Floating-point operations of one call."""
        return 2 * self.rows * self.inner * self.columns

    @property
    def shape(self) -> str:
        """In words."""
        return f"{self.rows}×{self.inner}×{self.columns}"  # noqa: RUF001


def lstm_products(
    name: str, batch: int, steps: int, embedding: int, hidden: int, outputs: int | None
) -> tuple[Product, ...]:
    """Forward products of an LSTM over a window: the inputs of all steps as one, the recurrence a step, the output."""
    products = (
        Product(f"{name}, input projection", batch * steps, embedding, 4 * hidden),
        Product(f"{name}, recurrence", batch, hidden, 4 * hidden, calls=steps),
    )
    if outputs is None:
        return products
    return (*products, Product(f"{name}, output", batch * steps, hidden, outputs))


def backward_products(forward: Sequence[Product]) -> tuple[Product, ...]:
    """The products of the backward pass: gradients of each forward product's inputs and weights."""
    inputs = (Product(f"{p.name}, inputs' gradient", p.rows, p.columns, p.inner, p.calls) for p in forward)
    weights = (Product(f"{p.name}, weights' gradient", p.columns, p.rows * p.calls, p.inner) for p in forward)
    return (*inputs, *weights)


def total_flops(products: Sequence[Product]) -> int:
    """Floating-point operations of a step."""
    return sum(product.flops * product.calls for product in products)


class ProductRunner:
    """Does a product again and again with the same operands, in the fastest of the ways PyTorch has for it."""

    def __init__(self, product: Product, dtype: torch.dtype) -> None:
        """Try every way: none is the fastest at all shapes, and a limit must not be one that a layer can beat."""
        self.product = product
        ways = _ways(product, dtype)
        calls = max(1, min(MOST_TRIAL_CALLS, int(TRIAL_FLOPS / product.flops)))
        seconds = dict.fromkeys(ways, float("inf"))
        for _ in range(TRIALS):
            for name, way in ways.items():
                seconds[name] = min(seconds[name], _seconds(way, calls))
        self.way = min(seconds, key=lambda name: seconds[name])
        self._call = ways[self.way]

    @torch.no_grad()
    def run(self, calls: int) -> int:
        """Returns the floating-point operations done."""
        for _ in range(calls):
            self._call()
        return calls * self.product.flops


class TrainingProducts:
    """The products of a step, in one precision."""

    def __init__(self, products: Sequence[Product], dtype: torch.dtype) -> None:
        self._runners = [ProductRunner(product, dtype) for product in products]

    def run(self, steps: int) -> None:
        """Do the products of some steps."""
        for _ in range(steps):
            for runner in self._runners:
                runner.run(runner.product.calls)


def _ways(product: Product, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """As a layer calls it, by a matrix turned ahead, and on oneDNN's own layouts where it is there."""
    inputs = torch.randn(product.rows, product.inner).to(dtype)
    weights = torch.randn(product.columns, product.inner).to(dtype)
    turned, out = weights.t().contiguous(), torch.empty(product.rows, product.columns, dtype=dtype)
    ways: dict[str, Callable[[], Tensor]] = {
        "linear": lambda: linear(inputs, weights),
        "matrix turned ahead": lambda: torch.mm(inputs, turned, out=out),
    }
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        laid_inputs, laid_weights = inputs.to_mkldnn(), weights.to_mkldnn()
        ways["oneDNN layouts"] = lambda: linear(laid_inputs, laid_weights)
    return ways


@torch.no_grad()
def _seconds(way: Callable[[], Tensor], calls: int) -> float:
    started = perf_counter()
    for _ in range(calls):
        way()
    return perf_counter() - started
