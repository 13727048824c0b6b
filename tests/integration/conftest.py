"""One MLflow server and one store of trained models for the tests of a module that ask for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.registry_world import MlflowServer, Place, Workshop, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def place(server: MlflowServer, workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A registered model of the test's own, on a server that runs."""
    server.start()
    return Place(server, workshop, monkeypatch)
