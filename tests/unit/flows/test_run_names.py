"""Flow runs are named by what they do and why."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flows import run_names
from flows.run_names import LONGEST_REASON, retraining_name, run_name, training_name


def runtime(patch: pytest.MonkeyPatch, deployment: str | None, flow: str = "", **parameters: Any) -> None:
    patch.setattr(run_names, "deployment", SimpleNamespace(name=deployment))
    patch.setattr(run_names, "flow_run", SimpleNamespace(flow_name=flow, parameters=parameters))


def test_a_deployments_run_says_which_one_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(monkeypatch, "nightly", "train-sentiment", preset="fast")
    assert training_name() == "sentiment fast · nightly"
    runtime(monkeypatch, None, "train-language-model", preset="sample", from_stage="train")
    assert training_name() == "language model sample from train"
    runtime(monkeypatch, "changes")
    assert run_name("watch") == "watch · changes"


def test_a_retraining_says_its_reason_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime(monkeypatch, "on-change", project="language_model", preset="fast", reason="asked for")
    assert retraining_name() == "retrain language model fast · asked for"
    runtime(monkeypatch, "on-change", project="sentiment", preset="fast", reason="the corpus changed: " + "x y " * 99)
    name = retraining_name()
    assert name.startswith("retrain sentiment fast · the corpus changed: x y")
    assert name.endswith("…")
    assert len(name) <= len("retrain sentiment fast · ") + LONGEST_REASON
