"""A row's process, seen from the command: its events become progress, its last one the row."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from benchmarks.plan import ROWS, Plan
from benchmarks.progress import Clock
from benchmarks.report import number


class Stopped(Exception):  # noqa: N818
    """Ctrl-C ended a row; ``row`` is what it had measured by then, None where no round was whole."""

    def __init__(self, row: dict[str, Any] | None) -> None:
        super().__init__()
        self.row = row


def measure_row(name: str, plan: Plan, clock: Clock) -> dict[str, Any]:
    """The row as plain values; with an ``error`` in place of values where its process failed. Raises Stopped."""
    command = [sys.executable, "-m", "benchmarks.row", name, plan.to_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            row = _follow(process, clock)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            raise Stopped(_follow(process, clock)) from None
    if row is None or process.returncode != 0:
        clock.say(f"failed with exit code {process.returncode}; the next row goes on")
        return {"name": name, "title": ROWS[name].title, "error": f"its process ended with {process.returncode}"}
    return row


def _follow(process: subprocess.Popen[str], clock: Clock) -> dict[str, Any] | None:
    """Tell of the events until the process ends. Returns the row, if it came to that."""
    assert process.stdout is not None
    row: dict[str, Any] | None = None
    values: list[str] = []
    for line in process.stdout:
        event = _parse(line)
        if event.get("event") == "note":
            clock.say(event["text"])
        elif event.get("event") == "bout":
            values.append(f"{event['name']} {number(event['value'])}")
            if event["last"]:
                clock.round_done(event["round"], event["of"], f"{', '.join(values)} {event['unit']}")
                values.clear()
        elif event.get("event") == "row":
            row = event["row"]
    return row


def _parse(line: str) -> dict[str, Any]:
    """An event; empty for a line that some library printed."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
