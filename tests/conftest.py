"""Every test run works in a folder of its own: no test reads or writes the home folder or this project's `.unroll`."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command

_root = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes beside each other have a core each
    # Before any test module is collected: importing prefect already reads PREFECT_HOME and writes there.
    root = Path(tempfile.mkdtemp(prefix="unroll-tests-"))
    config.stash[_root] = root
    (root / "home").mkdir()
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ.pop(name, None)
    os.environ |= {
        "HOME": str(root / "home"),
        "UNROLL_HOME": str(root / "unroll"),
        "PREFECT_HOME": str(root / "unroll" / "prefect"),
        "HF_HOME": str(root / "unroll" / "huggingface"),
        "MPLCONFIGDIR": str(root / "unroll" / "matplotlib"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{root}/unroll/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_root], ignore_errors=True)


@pytest.fixture(scope="session")
def session_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of this test run; it goes when the run ends."""
    return pytestconfig.stash[_root]


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """A test that calls the command line in this process sets up its logs; the next one starts without them."""
    logger = logging.getLogger("unroll")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command in an empty folder."""
    return Command(tmp_path)


@pytest.fixture(scope="module")
def shared_command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command in one folder for a whole module: what one test trains, another uses."""
    return Command(tmp_path_factory.mktemp("work"))
