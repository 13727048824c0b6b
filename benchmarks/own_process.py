"""A contestant that lives in a process of its own: ``python -m benchmarks.own_process MODULE PLAN ARGUMENT…``.

For what is a matter of a whole process, such as how its memory is managed: in the row's process it would change the
other side's too. The process is started once, and waits between its bouts.
"""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from benchmarks.measure import Bout, Lap
from benchmarks.plan import Plan

ENDED = "the process of a contestant has ended; what it said stands above"


class Worker(Protocol):
    """What a module's ``make_worker(plan, *arguments)`` returns, in the process."""

    def bout(self, number: int) -> Bout:
        """The work of a round, see `benchmarks.measure.Contestant`."""

    def facts(self) -> dict[str, Any]:
        """What to tell after the rounds, plain values."""


class OwnProcess:
    """The row's end of it."""

    def __init__(self, module: str, plan: Plan, *arguments: str) -> None:
        """Start the process; it makes the worker while the row goes on."""
        command = [sys.executable, "-m", "benchmarks.own_process", module, plan.to_json(), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def bout(self, number: int) -> Bout:
        """The work of a round, timed in the process. Raises RuntimeError where it has ended."""
        reply = self._ask({"bout": number})
        return Bout(reply["amount"], Lap(**reply["lap"]))

    def facts(self) -> dict[str, Any]:
        """What the worker tells. Raises RuntimeError where the process has ended."""
        return self._ask({"facts": True})

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(ENDED) from None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(ENDED)
        reply: dict[str, Any] = json.loads(line)
        return reply


def main() -> int:
    """Make the worker, then answer questions until there are no more: the row has ended."""
    # Ctrl-C goes to the whole group; the row decides what becomes of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    module, plan, arguments = sys.argv[1], Plan.from_json(sys.argv[2]), sys.argv[3:]
    make_worker: Callable[..., Worker] = importlib.import_module(module).make_worker
    worker = make_worker(plan, *arguments)
    for line in sys.stdin:
        question = json.loads(line)
        reply = worker.facts() if "facts" in question else asdict(worker.bout(question["bout"]))
        print(json.dumps(reply), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
