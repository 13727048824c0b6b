from __future__ import annotations

from pathlib import Path

import pytest

from flows.env_file import make_env, read_env


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """A full set, as `.env` has it."""
    make_env(tmp_path / ".env")
    return read_env(tmp_path / ".env")
