"""How long the stack takes to come up and to say a first word; run with nothing beside it, since clocks are read."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.stack_world import Stack, new_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

SECONDS_TO_BE_HEALTHY = 90.0


def test_from_nothing_it_is_healthy_within_its_time_and_says_where_it_is(stack: Stack) -> None:
    print(f"healthy after {stack.seconds_to_start:.1f} s")
    assert stack.seconds_to_start < SECONDS_TO_BE_HEALTHY
    assert set(stack.status().values()) <= {"healthy", "done", "stopped"}
    assert {name for name, said in stack.status().items() if said == "stopped"} == set(stack.without)
    assert oct((stack.folder / ".env").stat().st_mode & 0o777) == "0o600"


def test_started_twice_it_is_left_as_it_is(stack: Stack) -> None:
    before = {process.pid for process in stack.processes()}
    assert stack.up() < 10
    assert {process.pid for process in stack.processes()} >= before


def test_down_leaves_no_process_and_up_finds_the_data_again(stack: Stack) -> None:
    stack.down()
    assert stack.processes() == []
    assert "not running" in stack("down").stdout
    assert stack.up() < SECONDS_TO_BE_HEALTHY


def test_after_a_power_cut_the_same_command_brings_it_back(stack: Stack) -> None:
    supervisor = psutil.Process(int((stack.data / "supervisord.pid").read_text()))
    for process in [supervisor, *stack.processes()]:
        process.kill()
    wait_until(lambda: stack.processes() == [])
    assert stack.up() < SECONDS_TO_BE_HEALTHY
    assert set(stack.status().values()) <= {"healthy", "done", "stopped"}


def test_its_first_word_comes_within_two_seconds_and_a_taken_port_is_named() -> None:
    with new_stack() as fresh, socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh.ports["mlflow"]))
        taken.listen()
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "stack", "up"],
            cwd=fresh.folder,
            env=fresh.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "starting the stack" in process.stderr.readline()
        assert time.monotonic() - began < 2
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"Port {fresh.ports['mlflow']} of mlflow is taken" in said
        assert "UNROLL_MLFLOW_PORT" in said
        assert fresh.processes() == []
