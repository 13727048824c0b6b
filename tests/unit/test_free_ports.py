"""Ports for the servers of tests that run beside each other."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import ports
from tests.command import ROOT


class Drawn:
    """Draws what a test says."""

    def __init__(self, *numbers: int) -> None:
        self._numbers: Iterator[int] = iter(numbers)

    def randrange(self, *_: int) -> int:
        return next(self._numbers)


def test_a_port_is_given_once_and_no_other_process_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ports.free_port(), ports.free_port()
    assert first != second
    monkeypatch.setattr(ports, "_random", Drawn(first, second, 31_999))
    assert ports.free_port() == 31_999
    script = (
        "from tests import ports\n"
        f"drawn = iter([{first}, {second}, 31_998])\n"
        "ports._random.randrange = lambda *_: next(drawn)\n"
        "print(ports.free_port())"
    )
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == "31998"


def test_a_server_listens_on_the_port_that_it_was_given_and_a_taken_one_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as server, socket.socket() as taken:
        server.bind(("127.0.0.1", ports.free_port()))
        server.listen()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(ports, "_random", Drawn(taken.getsockname()[1], 31_997))
        assert ports.free_port() == 31_997
