"""``make bench``: ours against the chapter's own way, and against what the machine can do, measured in one run.

Each row runs in a process of its own, its contestants in turn; see `benchmarks.measure`. A whole run writes
bench.json and bench.md into benchmarks/results; any other run only where --out says. With UNROLL_MIRROR set the corpora
are IMDb and The Mysterious Island, else made ones. Progress goes to stderr, the ratios to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.child import Stopped, measure_row
from benchmarks.plan import QUICK_ROWS, ROWS, Plan
from benchmarks.progress import Clock
from benchmarks.report import short_table, to_markdown

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]


def main() -> int:
    """Measure the rows that were asked for; 1 where one failed."""
    arguments = _arguments()
    if arguments.threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before anything imports PyTorch
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # keeps what was measured, as Ctrl-C does
    names = arguments.only or list(QUICK_ROWS if arguments.quick else ROWS)
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="unroll-bench-") as folder:
        plan = Plan(
            folder,
            quick=arguments.quick,
            real_corpora=bool(os.environ.get("UNROLL_MIRROR")) and not arguments.quick,
            rounds=arguments.rounds,
            accuracy_epochs=arguments.accuracy_epochs,
        )
        clock = Clock({name: ROWS[name].quick_seconds if plan.quick else ROWS[name].seconds for name in names})
        rows, interrupted = _measure(names, plan, clock)
    results = {
        "date": date.today().isoformat(),
        "commit": find_commit(),
        "quick": plan.quick,
        "real_corpora": plan.real_corpora,
        "seconds": round(perf_counter() - started, 1),
        "machine": describe_machine(),
        "rows": rows,
    }
    is_whole = not (interrupted or plan.quick or arguments.only)
    results_folder = arguments.out or (RESULTS if is_whole else None)
    if results_folder is not None:
        _write(results, results_folder)
        clock.say(f"wrote bench.json and bench.md into {os.path.relpath(results_folder)}")
    print(short_table(results))
    return 130 if interrupted else int(any("error" in row for row in rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", choices=list(ROWS), metavar="ROW", help=f"{', '.join(ROWS)}; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="about a minute on made data: does everything run?")
    parser.add_argument("--rounds", type=_positive, help="rounds of every row; the usual numbers are 3 to 9")
    parser.add_argument("--threads", type=_positive, help="PyTorch's threads; one steadies ratios where cores are busy")
    parser.add_argument(
        "--accuracy-epochs",
        type=int,
        default=0,
        metavar="N",
        help="train the chapter's side of the sentiment row too, for N epochs (10 take an hour)",
    )
    parser.add_argument("--out", type=Path, help="folder of bench.json and bench.md")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {number}")
    return number


def _measure(names: list[str], plan: Plan, clock: Clock) -> tuple[list[dict[str, Any]], bool]:
    """Results of the rows in order, and whether Ctrl-C ended the run before the last."""
    rows = []
    for name in names:
        clock.begin(name)
        try:
            rows.append(measure_row(name, plan, clock))
        except Stopped as stopped:
            clock.say("stopped: the rounds that were whole by now are kept")
            return rows + ([] if stopped.row is None else [stopped.row]), True
        clock.end(name)
    return rows, False


def _write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(to_markdown(results), encoding="utf-8")


def describe_machine() -> dict[str, Any]:
    """Cores, threads and versions, for the head of a page."""
    import torch

    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def find_commit() -> str:
    """What git calls the working tree."""
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
