from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.env_file import make_env, read_env


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """A full set, as `.env` has it."""
    make_env(tmp_path / ".env")
    return read_env(tmp_path / ".env")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name, which any user may enter; pytest's own are neither."""
    folder = Path(tempfile.mkdtemp(prefix="unroll-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
