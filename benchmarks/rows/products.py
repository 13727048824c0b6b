"""Rate of matrix products at the layers' own shapes, in float32 and bfloat16."""

from __future__ import annotations

import torch

from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.products import Product, ProductRunner, lstm_products
from benchmarks.ratios import Promise

PRODUCTS = (
    *lstm_products("sentiment", batch=32, steps=240, embedding=20, hidden=64, outputs=None),
    *lstm_products("language model", batch=64, steps=40, embedding=256, hidden=512, outputs=82),
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BOUT_FLOPS = 2e10
"""A few tenths of a second at 100 GFLOP/s."""
SLOWEST_CALLS = 4_000
"""A small product is mostly the call itself; more of them would only take longer."""


def make_row(plan: Plan) -> Row:
    """A contestant for each product and precision."""
    contestants, promises = [], []
    for product in PRODUCTS:
        for precision, dtype in DTYPES.items():
            contestants.append(_contestant(product, precision, dtype, plan.quick))
        bfloat16, float32 = (_name(product, precision) for precision in ("bfloat16", "float32"))
        promises.append(Promise(f"bfloat16 over float32, {product.name}", bfloat16, float32))
    return Row(
        unit="GFLOP/s",
        data="random operands, two threads at most" if torch.get_num_threads() > 1 else "random operands, one thread",
        contestants=tuple(contestants),
        promises=tuple(promises),
        rounds=plan.num_rounds(7),
        notes=(
            "Shapes are rows×inner×columns; the sentiment model's input projection is of 32 reviews of 240 words.",  # noqa: RUF001
            "Forward shapes, each in the fastest of the ways that PyTorch has for it, which the table names.",
        ),
    )


def _name(product: Product, precision: str) -> str:
    return f"{product.name}, {precision}"


def _contestant(product: Product, precision: str, dtype: torch.dtype, quick: bool) -> Contestant:
    runner = ProductRunner(product, dtype)
    calls = max(1, min(SLOWEST_CALLS, int(BOUT_FLOPS / product.flops)) // (20 if quick else 1))

    def bout(number: int) -> Bout:
        return timed(lambda: runner.run(1 if number == WARM_UP else calls) / 1e9)

    return Contestant(_name(product, precision), f"{product.shape}, {runner.way}", bout)
