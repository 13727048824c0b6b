"""A worker that is asked to stop lets its runs save their state first, and leaves none behind."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import worker
from tasks.run_lock import RunLock

SAVES = """
import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.5)
    pathlib.Path("saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys
children = []
for name, code in (("saves", {SAVES!r}), ("stubborn", {STUBBORN!r})):
    environment = {{**os.environ, "PREFECT__FLOW_RUN_ID": name}}
    command = [sys.executable, "-c", code]
    child = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    children.append(child)
print("up", flush=True)
for child in children:
    child.wait()
"""
"""Stands in for Prefect's worker with two runs."""


def test_runs_save_their_state_and_those_that_do_not_end_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNROLL_HOME", str(tmp_path))
    monkeypatch.setattr(worker, "SECONDS_TO_SAVE", 2.0)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    children = psutil.Process(parent.pid).children()
    time.sleep(random.uniform(0, 0.3))
    began = time.monotonic()
    worker.stop_runs(parent.pid)
    assert time.monotonic() - began >= 2
    psutil.wait_procs(children, timeout=10)
    assert [child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children] == [False, False]
    assert (tmp_path / "saved").exists()
    for name in ("saves", "stubborn"):
        assert RunLock(tmp_path / "runs", name).was_stopped()
    parent.wait()
    worker.stop_runs(parent.pid)  # nothing is there any more


def test_a_worker_that_ends_by_itself_gives_its_status_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker.Worker, "_keep_looking", lambda _: None)
    assert worker.Worker(["--no-such-option"], {"PREFECT_HOME": str(tmp_path), "PATH": ""}).run() != 0


def test_its_name_is_the_one_that_prefects_worker_is_given() -> None:
    arguments = ["--pool", "unroll", "--type", "process", "--name", "worker-gpu"]
    assert worker.Worker(arguments, {})._name() == "worker-gpu"
    assert worker.Worker(arguments[:-2], {})._name() is None
