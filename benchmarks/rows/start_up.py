"""Seconds until the command line answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks.measure import Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise


def make_row(plan: Plan) -> Row:
    """An empty Python, our help, and PyTorch's import for scale."""
    return Row(
        unit="s",
        data="",
        contestants=(
            Contestant("python", "an empty program", _bouts(["-c", "pass"])),
            Contestant("unroll --help", "the command line's help", _bouts(["-m", "flows.cli", "--help"])),
            Contestant("import torch", "for scale: what help does without", _bouts(["-c", "import torch"])),
        ),
        promises=(
            Promise("unroll --help, seconds", "unroll --help", at_most=0.5),
            Promise("unroll --help over an empty Python", "unroll --help", "python"),
        ),
        rounds=plan.num_rounds(9),
        notes=("Wall clock of whole processes.",),
    )


def _bouts(arguments: Sequence[str]) -> Callable[[int], Bout]:
    def run() -> float:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return 1

    return lambda _: timed(run)
