"""The worker of the stack: ``python -m flows.worker ARGS…``, with the arguments of ``prefect worker start``.

Beside Prefect's worker it looks after the flow runs: what lost its process is started again (`tasks.reconcile`). Asked
to stop, it asks the runs first and gives them time to save their state, for Prefect's worker would leave them behind.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType

import psutil  # type: ignore[import-untyped]

from flows.commands.deploy import POOL
from flows.embedded import prepare_environment, workplace
from flows.logs import set_up_logs

logger = logging.getLogger("unroll.worker")

SECONDS_BETWEEN_LOOKS = 10.0
SECONDS_TO_SAVE = 40.0
"""From asking a run to stop until it is killed; the supervisor waits a minute for the worker."""
SECONDS_TO_END = 10.0


class Worker:
    """Prefect's worker as a child process, and the looks beside it."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environment = environment
        self._stopped = threading.Event()

    def run(self) -> int:
        """Until a signal asks to stop or Prefect's worker ends; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        # of its own session, so that a signal to the group of this process reaches it only when the runs have ended
        command = [sys.executable, "-m", "prefect", "worker", "start", *self._arguments]
        child = subprocess.Popen(command, env=self._environment, start_new_session=True)
        threading.Thread(target=self._keep_looking, daemon=True).start()
        while child.poll() is None and not self._stopped.wait(0.2):
            pass
        if child.poll() is None:
            stop_runs(child.pid)
            child.terminate()
            try:
                child.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                child.kill()
        status = child.wait()
        return 0 if self._stopped.is_set() else status if status > 0 else 128 - status

    def _name(self) -> str | None:
        """What --name calls the worker; None if Prefect is to call it something."""
        options = dict(zip(self._arguments, self._arguments[1:], strict=False))
        return options.get("--name") or options.get("-n")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped.set()

    def _keep_looking(self) -> None:
        from flows.logs import quiet_libraries
        from tasks.reconcile import Reconciler

        quiet_libraries()
        reconciler, trouble = Reconciler(POOL, workplace().runs, self._name()), ""
        while not self._stopped.is_set():
            try:
                reconciler.look()
                trouble = ""
            except Exception as error:  # whatever it is, the next look may go well
                if (now := f"{type(error).__name__}: {error}") != trouble:
                    logger.warning("cannot look after the flow runs, trying again: %s", now)
                trouble = now
            self._stopped.wait(SECONDS_BETWEEN_LOOKS)


def stop_runs(worker_id: int) -> None:
    """Ask every flow run of a worker's process to save its state and end; kill what has not after SECONDS_TO_SAVE."""
    from tasks.reconcile import RUN_VARIABLE
    from tasks.run_lock import RunLock

    asked = set[psutil.Process]()
    deadline = time.monotonic() + SECONDS_TO_SAVE
    while runs := _children(worker_id):
        is_late = time.monotonic() > deadline
        for process in runs:
            try:
                if process not in asked:
                    run_id = process.environ().get(RUN_VARIABLE, "")
                    logger.info("stopping flow run %s", run_id)
                    RunLock(workplace().runs, run_id).note_stop()
                    process.terminate()
                    asked.add(process)
                elif is_late:
                    os.killpg(process.pid, signal.SIGKILL)
            except (psutil.Error, OSError):
                continue  # it has ended
        time.sleep(0.1)


def _children(worker_id: int) -> list[psutil.Process]:
    """Processes that the worker has started for its runs and that still run."""
    from tasks.reconcile import RUN_VARIABLE

    found = []
    try:
        for process in psutil.Process(worker_id).children():
            try:
                if RUN_VARIABLE in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
    except psutil.Error:
        return []
    return found


def main() -> int:
    """Run until asked to stop."""
    environment = dict(os.environ)  # of Prefect's worker: what follows is for the looks, and quieter
    prepare_environment(workplace())
    set_up_logs(logging.INFO)
    return Worker(sys.argv[1:], environment).run()


if __name__ == "__main__":
    sys.exit(main())
