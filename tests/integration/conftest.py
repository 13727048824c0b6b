"""Servers and a store of trained models that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.command import Command
from tests.prefect_world import PrefectServer
from tests.registry_world import MlflowServer, Place, Workshop, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    running = PrefectServer(tmp_path_factory.mktemp("prefect"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def served_command(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """`shared_command` on a Prefect server that is up: for what does not hang on the one that commands start."""
    return Command(tmp_path_factory.mktemp("work"), prefect.api)


@pytest.fixture
def place(server: MlflowServer, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A registered model of the test's own, on a server that runs."""
    server.start()
    return Place(server, workshop, monkeypatch)
