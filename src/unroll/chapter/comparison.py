"""Every remedy on every task and length, in as many processes as there are cores, each trial kept once it is done."""

from __future__ import annotations

import json
import logging
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unroll.chapter import figures
from unroll.chapter.long_memory import MEMORY_TASKS
from unroll.chapter.remedies import LENGTHS, REMEDIES, STEPS, Outcome, Trial, run_trial
from unroll.chapter.tables import table
from unroll.config import flatten
from unroll.errors import UnrollError
from unroll.files import write_json
from unroll.processes import end_with_parent, usable_cores
from unroll.store import StageKey, Store, source_digests
from unroll.training.progress import format_duration

logger = logging.getLogger(__name__)

FILE_NAME = "outcome.json"


def all_trials(lengths: Sequence[int] = LENGTHS, steps: int = STEPS) -> list[Trial]:
    """The whole comparison, the longest sequences first: they keep the cores busy to the end."""
    return [
        Trial(task, length, remedy, steps)
        for length in sorted(lengths, reverse=True)
        for task in MEMORY_TASKS
        for remedy in REMEDIES
    ]


def run_trials(trials: Sequence[Trial], store: Store) -> Iterator[tuple[Trial, Outcome]]:
    """Each trial with its outcome, as they get done; those that the store holds are not run again.

    Raises StoreError where an outcome cannot be written, UnrollError where a training process was killed.
    """
    started = time.perf_counter()
    steps_done, steps_in_all = 0, sum(trial.length for trial in trials)
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that PyTorch's threads hold
    pool = ProcessPoolExecutor(usable_cores(), mp_context=context, initializer=_start_process)
    try:
        waiting = {pool.submit(find_or_run, trial, str(store.root)): trial for trial in trials}
        for number, future in enumerate(as_completed(waiting), start=1):
            trial, outcome = waiting[future], future.result()
            steps_done += trial.length
            left = (time.perf_counter() - started) * (steps_in_all / steps_done - 1)
            share = f"{100 * outcome.accuracy:.1f} %"
            logger.info(
                "trial %d of %d: %s; about %s left", number, len(trials), f"{trial}: {share}", format_duration(left)
            )
            yield trial, outcome
    except BrokenProcessPool as error:
        raise UnrollError(
            "A training process was killed, perhaps for want of memory. Run again: finished trials are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, nobody waits for trials that have not begun


def find_or_run(trial: Trial, store_root: str) -> Outcome:
    """The outcome of a trial, from the store where it holds it."""
    store, key = Store(Path(store_root)), trial_key(trial)
    with store.lock(key):
        artifact = store.find(key) or store.publish(key, lambda folder: _write(run_trial(trial), folder))
    plain: Mapping[str, Any] = json.loads((artifact.folder / FILE_NAME).read_text(encoding="utf-8"))
    return Outcome(**plain)


def trial_key(trial: Trial) -> StageKey:
    """What decides a trial's outcome."""
    return StageKey("chapter", "remedies", {}, flatten(asdict(trial)), source_digests(["unroll.chapter.remedies"]))


def accuracies(outcomes: Mapping[Trial, Outcome], task: str) -> dict[str, dict[int, float]]:
    """Of one task: by remedy, and by length from the shortest."""
    found: dict[str, dict[int, float]] = {remedy.name: {} for remedy in REMEDIES}
    for trial in sorted(outcomes, key=lambda trial: trial.length):
        if trial.task == task:
            found[trial.remedy.name][trial.length] = outcomes[trial].accuracy
    return found


def tabulate(outcomes: Mapping[Trial, Outcome]) -> list[str]:
    """Accuracies by task, remedy and length, and how large gradients became; lines for the terminal."""
    lines: list[str] = []
    for task in MEMORY_TASKS:
        by_remedy = accuracies(outcomes, task)
        lengths = sorted({length for by_length in by_remedy.values() for length in by_length})
        rows = [
            (name, *(_cell(task, length, name, outcomes) for length in lengths))
            for name in by_remedy
            if by_remedy[name]
        ]
        header = (f"{task}: right answers (largest gradient norm)", *(f"{length} steps" for length in lengths))
        lines += [*table(header, rows), ""]
    return lines[:-1]


def draw_comparison(outcomes: Mapping[Trial, Outcome]) -> dict[str, Figure]:
    """A figure for each task, and the curves of the simple RNN on the shortest sequences."""
    drawn = {f"remedies_{task}": figures.remedies(accuracies(outcomes, task), task) for task in MEMORY_TASKS}
    shortest = min(trial.length for trial in outcomes)
    curves = {
        trial.remedy.name: outcomes[trial]
        for trial in sorted(outcomes, key=lambda trial: REMEDIES.index(trial.remedy))
        if (trial.task, trial.length) == ("adding", shortest)
    }
    return {**drawn, "remedies_curves": figures.clipping(curves)}


def _cell(task: str, length: int, name: str, outcomes: Mapping[Trial, Outcome]) -> str:
    for trial, outcome in outcomes.items():
        if (trial.task, trial.length, trial.remedy.name) == (task, length, name):
            share = "diverged" if outcome.diverged else f"{outcome.accuracy:.0%}"
            return f"{share} ({outcome.largest('train/gradient_norm'):.2g})"
    return ""


def _write(outcome: Outcome, folder: Path) -> None:
    write_json(folder / FILE_NAME, asdict(outcome))


def _start_process() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)  # the bits do not hang on how many cores there are
    logging.getLogger("unroll").setLevel(logging.ERROR)
