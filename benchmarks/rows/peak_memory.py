"""Peak memory of training a language model on 1 GB and on 2 GB of text, from the file to the trained model.

The text is made: the sample's prose, repeated and changed. Each stage runs in a process of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.events import note
from benchmarks.long_text import write_long_text
from benchmarks.measure import NO_TIME, WARM_UP, Bout, Contestant, Stopwatch
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.stage_process import run_stage

MEGABYTES = (1_000, 2_000)
QUICK_MEGABYTES = (1, 2)
STAGES = ("download", "encode", "train")
STEPS = 200
QUICK_STEPS = 5
DISK_SHARE = 3.5
"""Bytes on disk for each byte of text: the file, the corpus, its ids, and room to spare."""


def make_row(plan: Plan) -> Row:
    """Both sizes, the values being MiB; seconds and the memory of each stage are told beside them."""
    sizes = QUICK_MEGABYTES if plan.quick else MEGABYTES
    _check_disk(plan.folder, sizes[-1])
    stages: list[dict[str, Any]] = []
    small, large = (f"{megabytes:,} MB" for megabytes in sizes)
    return Row(
        unit="MiB",
        data=f"{small} and {large} of prose, repeated and changed",
        contestants=tuple(
            Contestant(
                f"{megabytes:,} MB",
                "download, encode, train: the largest of their processes",
                _bouts(plan, megabytes, stages),
            )
            for megabytes in sizes
        ),
        promises=(
            Promise(f"peak memory of training on {small}, MiB", small, at_most=1_536),
            Promise(f"peak memory of training on {large}, MiB", large, at_most=1_536),
            Promise(f"peak memory, {large} over {small}", large, small, at_most=1.05),
        ),
        rounds=plan.num_rounds(1) if not plan.quick else 1,
        notes=(
            "The peak is that of the resident set, as the system counts it (VmHWM): the pages of mapped files are in "
            "it, though the system may take them back at any moment. Of a mapped file of ids, training gives the pages "
            "that it has read back every 64 steps.",
            f"Trained are the preset sample's model and {QUICK_STEPS if plan.quick else STEPS} steps, and one look at "
            "the validation part, of a million characters at most.",
        ),
        checks=lambda: {"memory_of_stages": stages},
    )


def _check_disk(folder: Path, megabytes: int) -> None:
    needed, free = int(DISK_SHARE * megabytes * 1e6), shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{folder} has {free / 1e9:.1f} GB free, this row needs {needed / 1e9:.1f}; set TMPDIR.")


def _bouts(plan: Plan, megabytes: int, told: list[dict[str, Any]]) -> Callable[[int], Bout]:
    def bout(number: int) -> Bout:
        if number == WARM_UP:  # a fresh process has nothing to warm
            return Bout(0.0, NO_TIME)
        folder = plan.folder / f"peak-memory-{megabytes}"
        folder.mkdir()
        try:
            watch = Stopwatch()
            stages = _run(folder, megabytes, plan)
            told.extend({"text": f"{megabytes:,} MB", **stage} for stage in stages)
            return Bout(max(stage["resident_mib"] for stage in stages), watch.lap())
        finally:
            shutil.rmtree(folder)

    return bout


def _run(folder: Path, megabytes: int, plan: Plan) -> list[dict[str, Any]]:
    note(f"making {megabytes:,} MB of text")
    text = folder / "source.txt"
    write_long_text(text, megabytes * 1_000_000, plan.seed)
    steps = QUICK_STEPS if plan.quick else STEPS
    settings = (f"data.source={text}", f"training.max_steps={steps}", "training.device=cpu", f"seed={plan.seed}")
    stages = []
    for stage in STAGES:
        note(f"{megabytes:,} MB: {stage}")
        stages.append({"stage": stage, **run_stage(stage, folder, settings)})
    return stages
