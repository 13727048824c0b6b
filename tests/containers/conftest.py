"""The engine, the base images, and the stack from a clone: made once, in this order."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.engine import Engine, why_not
from tests.containers.images import make_postgres_image, make_python_image
from tests.containers.packages import pip_configuration
from tests.containers.record import Record
from tests.containers.world import World


@pytest.fixture(scope="session")
def scratch() -> Path:
    """A folder for everything; the last test sees that it is gone."""
    return Path(tempfile.mkdtemp(prefix="unroll-containers-"))


@pytest.fixture(scope="session")
def record() -> Record:
    return Record()


@pytest.fixture(scope="session")
def engine(scratch: Path, record: Record) -> Iterator[Engine]:
    """A Docker engine that has the base images."""
    if reason := why_not():
        scratch.rmdir()
        pytest.skip(f"NO CONTAINERS: {reason}")
    made = Engine(scratch / "engine")
    try:
        with pip_configuration(scratch / "served") as pip_conf:
            with record.step("start an engine") as step:
                made.start()
                step.seen.append(f"Engine {made('version', '--format', '{{.Server.Version}}').strip()}")
            with record.step("base image: Debian and Python"):
                make_python_image(made, scratch / "rootfs", pip_conf)
            with record.step("base image: PostgreSQL"):
                make_postgres_image(made)
            yield made
    finally:
        made.stop()
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def world(engine: Engine, scratch: Path, record: Record) -> World:
    """The stack's clone; the first tests build and start it."""
    with record.step("clone"):
        return World.clone(scratch / "clone", engine)
