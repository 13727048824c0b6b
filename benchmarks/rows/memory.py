"""Memory bandwidth: what a copy moves, and what reading alone moves, of more than the caches hold."""

from __future__ import annotations

import torch

from benchmarks.measure import Bout, Contestant, timed
from benchmarks.plan import Plan, Row

MEBIBYTES = 256
REPEATS = 4


def make_row(plan: Plan) -> Row:
    """A copy, and a sum."""
    size = (MEBIBYTES // (8 if plan.quick else 1)) * 2**20
    source = torch.ones(size // 4)
    target = torch.empty_like(source)

    def copy() -> float:
        for _ in range(REPEATS):
            target.copy_(source)
        return 2 * REPEATS * size / 1e9

    def read() -> float:
        for _ in range(REPEATS):
            source.sum()
        return REPEATS * size / 1e9

    def bout_of_copies(_: int) -> Bout:
        return timed(copy)

    def bout_of_sums(_: int) -> Bout:
        return timed(read)

    return Row(
        unit="GB/s",
        data=f"{size // 2**20} MiB of float32",
        contestants=(
            Contestant("copy", "bytes read and bytes written", bout_of_copies),
            Contestant("sum", "bytes read", bout_of_sums),
        ),
        promises=(),
        rounds=plan.num_rounds(7),
    )
