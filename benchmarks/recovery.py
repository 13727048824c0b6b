"""``make recovery``: a deployed training dies at random moments in every way; how long until it goes on.

Each way in which it can lose its process, some times over, on whole stacks beside each other: PostgreSQL, Prefect,
MLflow and a worker, with the project's own times. Writes a table and every trial into ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Queue

import psutil

from benchmarks.run import find_commit
from tests.prefect_api import Prefect
from tests.recovery_world import DEATHS, SECONDS_TO_GO_ON, Trial, try_death
from tests.stack_world import new_stack

RESULTS = Path("benchmarks/results")


def run_trials(waiting: Queue[tuple[str, int]], number: int, trials: list[Trial]) -> None:
    """Add trials from the queue, on one stack, until it is empty."""
    with new_stack() as stack:
        stack.up()
        prefect = Prefect(stack)
        while True:
            try:
                kind, seed = waiting.get_nowait()
            except Empty:
                return
            trial = try_death(stack, prefect, kind, random.Random(seed))
            prefect.cancel(trial.run_id)
            trials.append(trial)
            said = f"{time.strftime('%H:%M:%S')} stack {number}: {trial}, seed {seed}; {waiting.qsize()} trials wait"
            print(said, file=sys.stderr, flush=True)


def page(trials: Sequence[Trial], stacks: int, load: float) -> str:
    """The table as Markdown."""
    lines = [
        "# Recovery",
        "",
        f"Made by `make recovery` on commit {find_commit()}, {time.strftime('%Y-%m-%d')}: {psutil.cpu_count()} cores, "
        f"{stacks} stacks beside each other, {load:.1f} processes wanting a core on average. Edit the harness, not "
        "this page.",
        "",
        "A deployed training (`train-sentiment/nightly`) dies at a random moment of its first minute. Seconds until it "
        "saves its state again: from the death, or, after an upgrade (`make stack-down`) and a reboot (all processes "
        "killed, three minutes dark), from the `make stack` that follows, whose own seconds are beside them. Promised: "
        f"{SECONDS_TO_GO_ON:.0f}.",
        "",
        "| death | trials | seconds, each | median | most | of them `make stack`, median |",
        "|---|---|---|---|---|---|",
    ]
    for kind in DEATHS:
        seconds = [trial.seconds for trial in trials if trial.kind == kind]
        if seconds:
            each = ", ".join(f"{value:.0f}" for value in seconds)
            middle, most = statistics.median(seconds), max(seconds)
            up = statistics.median(trial.up_seconds for trial in trials if trial.kind == kind)
            lines.append(f"| {kind} | {len(seconds)} | {each} | {middle:.0f} | {most:.0f} | {up:.0f} |")
    lines += ["", "| death | after, s | goes on, s | states of the run |", "|---|---|---|---|"]
    for trial in sorted(trials, key=lambda trial: list(DEATHS).index(trial.kind)):
        lines.append(f"| {trial.kind} | {trial.moment:.0f} | {trial.seconds:.0f} | {', '.join(trial.states)} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Run the trials; 1 if one took longer than promised, or never went on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=6, help="trials of each kind")
    parser.add_argument("--stacks", type=int, default=2, help="stacks beside each other")
    parser.add_argument("--kinds", nargs="*", default=list(DEATHS), choices=list(DEATHS))
    options = parser.parse_args()
    waiting: Queue[tuple[str, int]] = Queue()
    for _ in range(options.times):
        for kind in options.kinds:
            waiting.put((kind, random.randrange(10**6)))
    trials, loads = list[Trial](), [psutil.getloadavg()[0]]
    with ThreadPoolExecutor(options.stacks) as pool:
        stacks = [pool.submit(run_trials, waiting, number, trials) for number in range(options.stacks)]
        while not all(stack.done() for stack in stacks):
            time.sleep(10)
            loads.append(psutil.getloadavg()[0])
            record(trials, options.stacks, statistics.mean(loads))
        for each in stacks:
            each.result()
    record(trials, options.stacks, statistics.mean(loads))
    print((RESULTS / "recovery.md").read_text(encoding="utf-8"))
    return int(max(trial.seconds for trial in trials) > SECONDS_TO_GO_ON)


def record(trials: Sequence[Trial], stacks: int, load: float) -> None:
    """Write what there is so far."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recovery.md").write_text(page(trials, stacks, load), encoding="utf-8")
    (RESULTS / "recovery.json").write_text(json.dumps([asdict(trial) for trial in trials], indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
