from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stack.start import nobody_else_starts
from unroll.errors import UnrollError

HOLD = """
import sys
from pathlib import Path
from types import SimpleNamespace
from stack.start import nobody_else_starts
with nobody_else_starts(SimpleNamespace(folder=Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_nobody_starts_a_stack_that_another_process_restores_and_the_restore_itself_may(tmp_path: Path) -> None:
    setup: Any = SimpleNamespace(folder=tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UnrollError, match="wait until it has ended"), nobody_else_starts(setup):
            pytest.fail("two at once")
        other.kill()
    with nobody_else_starts(setup), nobody_else_starts(setup):
        pass
