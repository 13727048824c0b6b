"""What is tried again: a registry that could not be reached, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from tasks.stage import may_pass
from tasks.tracked_run import reaching_mlflow
from tests.ports import free_port
from unroll.errors import DataError, RegistryError


def test_a_server_that_does_not_answer_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RegistryError) as caught, reaching_mlflow(client):
        client.get_run("0" * 32)
    assert may_pass(caught.value)


def test_what_the_registry_says_and_what_is_wrong_with_data_stay_what_they_are(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(RegistryError) as caught, reaching_mlflow(client):
        client.get_run("0" * 32)
    assert not may_pass(caught.value)
    assert not may_pass(RegistryError("the alias was moved by hand"))
    assert not may_pass(DataError("no rows"))
