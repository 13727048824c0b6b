from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unroll.config import SentimentConfig
from unroll.errors import ConfigError, DataError
from unroll.presets import make_config
from unroll.retraining import (
    Account,
    Champion,
    Change,
    Cost,
    Curve,
    Origin,
    RetrainingFailed,
    differences,
    in_words,
    origin_now,
)

NOW = Origin(
    settings={"data.source": "sample", "training.learning_rate": "0.003", "registry.gate.alpha": "0.05"},
    data="d" * 64,
    code="c" * 64,
    modules={"unroll.stages": "1" * 64, "unroll.training.fit": "2" * 64},
    libraries={"version.torch": "2.13.0"},
)
CHAMPION = Champion("unroll-sentiment", "3", "a-run")


def changed(**parts: Any) -> list[tuple[str, str, bool]]:
    return [(each.kind, each.name, each.matters) for each in differences(replace(NOW, **parts), NOW)]


def account(**parts: Any) -> Account:
    return Account("sentiment", "sample", [], "asked for", **{"champion": CHAMPION, "changes": [], **parts})


def test_nothing_differs_from_itself() -> None:
    assert differences(NOW, NOW) == []
    assert in_words([]) == "nothing"


def test_data_code_and_settings_that_decide_the_weights_matter() -> None:
    assert changed(data="e" * 64) == [("data", "sample", True)]
    assert changed(code="e" * 64, modules={"unroll.stages": "9" * 64, "unroll.gone": "3" * 64}) == [
        ("code", "unroll.gone", True),
        ("code", "unroll.stages", True),
        ("code", "unroll.training.fit", True),
    ]
    assert changed(settings={**NOW.settings, "training.learning_rate": "0.1"}) == [
        ("setting", "training.learning_rate", True)
    ]
    assert changed(settings={"data.source": "sample", "registry.gate.alpha": "0.05"}) == [
        ("setting", "training.learning_rate", True)
    ]


@pytest.mark.parametrize(
    "name", ["registry.gate.alpha", "registry.promote", "evaluation.rival", "training.log_every", "data.source"]
)
def test_what_cannot_change_the_weights_is_told_and_is_no_reason_to_train(name: str) -> None:
    found = changed(settings={**NOW.settings, name: "something else"})
    assert found == [("setting", name, False)]
    assert not account(changes=differences(replace(NOW, settings={**NOW.settings, name: "x"}), NOW)).calls_for_training


def test_versions_are_told_and_are_no_reason() -> None:
    assert changed(libraries={"version.torch": "2.12.0"}) == [("library", "version.torch", False)]


def test_what_nobody_recorded_counts_as_changed() -> None:
    assert changed(data=None, code=None, modules={}) == [("data", "sample", True), ("code", "unroll", True)]
    # the record of the modules alone is gone: which of them changed is unknown, that some did is not
    assert changed(code="e" * 64, modules={}) == [("code", "unroll", True)]


def test_a_file_is_known_by_its_digest_wherever_it_lies(tmp_path: Path) -> None:
    here, there = tmp_path / "a.csv", tmp_path / "b.csv"
    for path in (here, there):
        path.write_text("text,label\nfine,1\n", encoding="utf-8")
    first, second = (
        origin_now(make_config("sentiment", {"data": {"source": str(path)}}), {}) for path in (here, there)
    )
    assert [(each.name, each.matters) for each in differences(first, second)] == [("data.source", False)]
    there.write_text("text,label\nfine,0\n", encoding="utf-8")
    third = origin_now(make_config("sentiment", {"data": {"source": str(there)}}), {})
    assert [each.kind for each in differences(first, third) if each.matters] == ["data"]
    there.unlink()
    with pytest.raises(DataError, match="no file or folder"):
        origin_now(make_config("sentiment", {"data": {"source": str(there)}}), {})


def test_the_code_of_a_run_is_that_of_training_data_and_gate() -> None:
    modules = origin_now(SentimentConfig(), {}).modules
    assert {"unroll.training.trainer", "unroll.data.sources", "unroll.evaluation.gate"} <= set(modules)
    # a report about runs is no part of one
    assert not [name for name in modules if "retrain" in name]


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        ({"champion": None, "changes": None}, True),
        ({"changes": None}, True),
        ({"changes": []}, False),
        ({"changes": [], "forced": True}, True),
        ({"changes": [Change("data", "sample", "a", "b", True)]}, True),
        ({"changes": [Change("library", "version.torch", "1", "2", False)]}, False),
    ],
)
def test_training_is_called_for_by_a_change_by_nobody_to_beat_or_by_a_person(parts: Any, calls: bool) -> None:
    assert account(**parts).calls_for_training is calls


@pytest.mark.parametrize(
    ("parts", "held"),
    [
        ({"decision": "promoted"}, False),
        ({"decision": "held"}, True),
        ({"decision": "rejected"}, True),
        ({"decision": "skipped"}, False),
        ({"decision": "held", "would_promote": True}, False),
        ({"decision": "held", "is_champions_model": True}, False),
    ],
)
def test_held_back_is_what_did_not_pass_the_gate(parts: Any, held: bool) -> None:
    assert account(**parts).is_held_back is held


def test_an_account_survives_json() -> None:
    full = account(
        changes=[Change("setting", "seed", None, "2", True)],
        curves=[Curve("train/loss", {"this version": [[1.0, 0.7], [2.0, 0.5]]})],
        cost=Cost(60.0, 30.0, "cpu", 12.5),
        summary={"model": {"version": "4"}},
    )
    for each in (full, account(), Account("language_model", "fast", ["seed=2"], "why")):
        assert Account.from_plain(json.loads(json.dumps(each.plain()))) == each


def test_a_failure_carries_the_account_the_message_and_the_exit_code() -> None:
    failed = account()
    error = ConfigError("no such setting")
    failed.fail(error)
    wrapped = RetrainingFailed(failed, error)
    assert (str(wrapped), wrapped.exit_code, failed.decision, failed.reason) == (
        *("no such setting", 2, "failed"),
        "no such setting",
    )
    failed.fail(ZeroDivisionError("by zero"))
    assert failed.reason == "ZeroDivisionError: by zero"


def test_changes_in_words_count_modules_and_name_settings() -> None:
    changes = differences(
        replace(
            NOW, data="e" * 64, code="e" * 64, modules={}, settings={**NOW.settings, "training.learning_rate": "1"}
        ),
        NOW,
    )
    assert in_words(changes) == "the data, the code (1 module), training.learning_rate (1 to 0.003)"
