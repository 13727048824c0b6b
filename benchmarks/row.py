"""Measures one row, in a process of its own: ``python -m benchmarks.row NAME PLAN``, started by `benchmarks.run`.

Tells what it does on stdout, see `benchmarks.events`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from dataclasses import asdict
from typing import Any

from benchmarks.events import note, say
from benchmarks.measure import Bout, Contestant, take_turns
from benchmarks.plan import ROWS, Plan, Row
from benchmarks.ratios import paired_ratios, spread
from unroll.errors import InterruptedTraining


def main() -> int:
    """Make the row, measure it, tell the result. Stopped by Ctrl-C, it tells of the rounds that were whole by then."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    name, plan = sys.argv[1], Plan.from_json(sys.argv[2])
    note("getting ready")
    row: Row = importlib.import_module(ROWS[name].module).make_row(plan)
    load_before = list(os.getloadavg())
    bouts, stopped = measure(row)
    result = summarize(row, bouts)
    result["load_average"] = {"before": load_before, "after": list(os.getloadavg())}
    result["checks"] = {}
    if not stopped:
        note("checking")
        result["checks"] = row.checks()
    say({"event": "row", "row": {"name": name, "title": ROWS[name].title, **result}})
    return 0


def measure(row: Row) -> tuple[dict[str, list[Bout]], bool]:
    """The bouts of whole rounds by contestant, and whether the row was stopped before the last round."""
    bouts: dict[str, list[Bout]] = {contestant.name: [] for contestant in row.contestants}
    stopped = False
    try:
        for number, contestant, bout in take_turns(row.contestants, row.rounds):
            bouts[contestant.name].append(bout)
            _tell(number, row, contestant, bout)
    except (KeyboardInterrupt, InterruptedTraining):
        stopped = True
    rounds = min(len(of_name) for of_name in bouts.values())
    if rounds == 0:
        raise SystemExit("stopped before the first round was whole")
    return {name: of_name[:rounds] for name, of_name in bouts.items()}, stopped


def _tell(number: int, row: Row, contestant: Contestant, bout: Bout) -> None:
    say(
        {
            "event": "bout",
            "round": number + 1,
            "of": row.rounds,
            "last": contestant is row.contestants[-1],
            "name": contestant.name,
            "value": _value(bout, row.unit),
            "unit": row.unit,
        }
    )


def summarize(row: Row, bouts: dict[str, list[Bout]]) -> dict[str, Any]:
    """Values of each contestant and what became of each promise, as plain values for JSON."""
    values = {name: [_value(bout, row.unit) for bout in of_name] for name, of_name in bouts.items()}
    by_cpu = {name: [_cpu_value(bout, row.unit) for bout in of_name] for name, of_name in bouts.items()}
    promises = []
    for promise in row.promises:
        ratios, cpu_ratios = values[promise.contestant], by_cpu[promise.contestant]
        if promise.against is not None:
            ratios = paired_ratios(ratios, values[promise.against])
            cpu_ratios = paired_ratios(cpu_ratios, by_cpu[promise.against])
        found = spread(ratios)
        promises.append(
            {
                **promise.to_dict(),
                "ratio": found.to_dict(),
                "cpu_ratio": spread(cpu_ratios).to_dict(),
                "asked": promise.asked(),
                "kept": promise.kept_by(found.median),
            }
        )
    laps = [bout.lap for of_name in bouts.values() for bout in of_name]
    seconds, elsewhere = sum(lap.seconds for lap in laps), [lap.elsewhere_seconds for lap in laps]
    known = [part for part in elsewhere if part is not None]
    return {
        "unit": row.unit,
        "data": row.data,
        "rounds": len(laps) // len(bouts),
        "contestants": [
            {
                "name": contestant.name,
                "what": contestant.what,
                "value": spread(values[contestant.name]).to_dict(),
                "bouts": [{"amount": bout.amount, **asdict(bout.lap)} for bout in bouts[contestant.name]],
            }
            for contestant in row.contestants
        ],
        "promises": promises,
        "elsewhere_cores": sum(known) / seconds if len(known) == len(elsewhere) else None,
        "notes": list(row.notes),
    }


def _value(bout: Bout, unit: str) -> float:
    if not _is_timed(unit):
        return bout.amount
    return bout.lap.seconds / bout.amount if unit == "s" else bout.amount / bout.lap.seconds


def _cpu_value(bout: Bout, unit: str) -> float:
    if not _is_timed(unit):
        return bout.amount
    cpu_seconds = max(bout.lap.cpu_seconds, 1e-3)  # the clock's grain
    return cpu_seconds / bout.amount if unit == "s" else bout.amount / cpu_seconds


def _is_timed(unit: str) -> bool:
    return unit == "s" or unit.endswith("/s")


if __name__ == "__main__":
    sys.exit(main())
