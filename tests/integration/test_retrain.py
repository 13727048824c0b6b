"""``unroll retrain`` as a user runs it, on the embedded stores: each ending, its exit code, its report, the alias."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import SMALL, Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = (
    *SMALL,
    *("--set", "data.sample_size=1500"),
    *("--set", "training.epochs=2"),
    *("--set", "training.log_every=5"),
)
BETTER = ("--set", "training.learning_rate=0.02", "--set", "training.epochs=8")
SLOWER = ("--set", "training.learning_rate=0.0001")


@dataclass(frozen=True)
class Retrained:
    code: int
    log: str
    output: str
    report: str
    page: str
    account: dict[str, Any]


def retrain(command: Command, *arguments: str, environment: dict[str, str] | None = None) -> Retrained:
    report, summary = command.folder / "report.md", command.folder / "account.json"
    page = report.with_suffix(".html")
    for path in (report, summary, page):
        path.unlink(missing_ok=True)
    files = ("--report", str(report), "--summary", str(summary), "--fail-on-hold")
    answer = command("retrain", "sentiment", *SETTINGS, *arguments, *files, environment=environment)
    texts = [path.read_text(encoding="utf-8") if path.exists() else "" for path in (report, page, summary)]
    return Retrained(answer.returncode, answer.stderr, answer.stdout, *texts[:2], json.loads(texts[2] or "{}"))


def aliases(command: Command) -> dict[str, str]:
    answer = command("models", "list", "unroll-sentiment")
    lines = [line.split() for line in answer.stdout.splitlines()[1:]]
    return {alias: line[0] for line in lines for alias in ("champion", "challenger") if f"{alias}" in " ".join(line)}


# Each retraining builds on the one before, so each is a fixture that asks for it.
@pytest.fixture(scope="module")
def first(served_command: Command) -> Retrained:
    return retrain(served_command)


@pytest.fixture(scope="module")
def unchanged(served_command: Command, first: Retrained) -> Retrained:
    return retrain(served_command, "--set", "training.log_every=7")


@pytest.fixture(scope="module")
def held(served_command: Command, unchanged: Retrained) -> Retrained:
    return retrain(served_command, "--set", "training.learning_rate=0.004", "--reason", "a | b @you")


@pytest.fixture(scope="module")
def judged(served_command: Command, held: Retrained) -> Retrained:
    return retrain(served_command, *BETTER, "--set", "registry.promote=false")


@pytest.fixture(scope="module")
def aliases_after_judging(served_command: Command, judged: Retrained) -> dict[str, str]:
    return aliases(served_command)


@pytest.fixture(scope="module")
def promoted(served_command: Command, aliases_after_judging: dict[str, str]) -> Retrained:
    return retrain(served_command, *BETTER)


@pytest.fixture(scope="module")
def rejected(served_command: Command, promoted: Retrained) -> Retrained:
    return retrain(served_command, *SLOWER)


def test_without_a_champion_the_model_is_trained_and_becomes_champion(first: Retrained) -> None:
    assert (first.code, first.account["decision"], first.account["changes"]) == (0, "promoted", None)
    assert "There was no champion." in first.report
    assert "promoted" in first.output


def test_where_nothing_changed_that_matters_nothing_is_trained_and_the_report_says_so(unchanged: Retrained) -> None:
    assert (unchanged.code, unchanged.account["decision"]) == (0, "skipped")
    assert "train: " not in unchanged.log
    assert unchanged.account["champion"]["version"] == "1"
    assert "Nothing that could change the weights." in unchanged.report
    assert "| setting | `training.log_every` | `5` | `7` |" in unchanged.report


def test_a_model_that_is_not_shown_to_be_better_is_held_with_3(held: Retrained) -> None:
    assert (held.code, held.account["decision"], held.account["held_back"]) == (3, "held", True)
    changes = [(each["name"], each["before"], each["now"]) for each in held.account["changes"] if each["matters"]]
    assert changes == [("training.learning_rate", "0.003", "0.004")]
    assert [stage["name"] for stage in held.account["summary"]["stages"] if stage["skipped"]] == [
        *("download", "validate", "encode"),
    ]
    assert "| metric | version 2 | champion, version 1 | rival: " in held.report
    assert held.report.count("```mermaid") == 2
    assert "champion (version 1) in orange" in held.report
    assert "| wall time, all stages |" in held.report
    assert held.page.count('src="data:image/png;base64,') >= 5
    assert "passages" not in held.account["summary"]


def test_a_judged_model_passes_the_gate_and_no_alias_moves(
    judged: Retrained, aliases_after_judging: dict[str, str]
) -> None:
    assert (judged.code, judged.account["decision"], judged.account["would_promote"]) == (0, "held", True)
    assert "passes the gate, not promoted here" in judged.report
    assert "unroll models promote unroll-sentiment/3" in judged.account["reason"]
    assert aliases_after_judging == {"champion": "1", "challenger": "2"}


def test_the_same_model_is_promoted_where_that_is_allowed(served_command: Command, promoted: Retrained) -> None:
    assert (promoted.code, promoted.account["decision"]) == (0, "promoted")
    assert promoted.account["summary"]["model"]["version"] == "3"
    assert "train: skipped" in promoted.log
    assert promoted.account["cost"]["device_seconds"] == 0
    assert aliases(served_command)["champion"] == "3"


def test_a_model_that_is_shown_to_be_worse_is_rejected_with_3(rejected: Retrained) -> None:
    assert (rejected.code, rejected.account["decision"]) == (3, "rejected")
    assert rejected.account["comparison"]["reference"] > rejected.account["comparison"]["challenger"]


def test_an_old_decision_is_made_anew_against_the_new_champion(served_command: Command, rejected: Retrained) -> None:
    again = retrain(served_command, "--set", "training.learning_rate=0.004")
    assert again.account["summary"]["model"]["version"] == "2"
    assert "train: skipped" in again.log
    assert "judged before another champion" in again.log
    assert (again.code, again.account["decision"]) == (3, "rejected")
    once_more = retrain(served_command, "--set", "training.learning_rate=0.004")
    assert "judged before another champion" not in once_more.log
    assert (once_more.code, once_more.account["decision"]) == (3, "rejected")


def test_a_former_champion_is_for_a_person_to_bring_back(served_command: Command, rejected: Retrained) -> None:
    former = retrain(served_command)
    assert (former.code, former.account["decision"]) == (3, "held")
    assert former.account["reason"].startswith("Version 1 was champion before; now version 3 is, promoted by ")
    assert aliases(served_command)["champion"] == "3"


def test_insisting_goes_through_the_stages_and_finds_the_champion(served_command: Command, rejected: Retrained) -> None:
    forced = retrain(served_command, *BETTER, "--force")
    assert (forced.code, forced.account["decision"]) == (0, "skipped")
    assert forced.account["reason"] == "The model that came out is the champion, version 3."
    assert "register: skipped" in forced.log


def test_the_champions_weights_again_are_not_held_back(served_command: Command, rejected: Retrained) -> None:
    kept = served_command.home / "store"
    aside = kept.with_name("aside")
    kept.rename(aside)
    try:
        # evaluation differs, which is no reason to train; insisted on, the same weights come out
        again = retrain(served_command, *BETTER, "--force", "--set", "evaluation.bootstrap_samples=101")
    finally:
        shutil.rmtree(kept)
        aside.rename(kept)
    assert (again.code, again.account["decision"]) == (0, "held")
    assert again.account["is_champions_model"]
    assert "the same model as the champion" in again.report


def test_a_failure_is_reported_and_raised(served_command: Command, rejected: Retrained) -> None:
    wrong = retrain(served_command, "--set", "model.hidden=3")
    assert wrong.code == 2
    assert wrong.account["decision"] == "failed"
    assert "did you mean model.hidden_size?" in wrong.report
    assert "did you mean model.hidden_size?" in wrong.log
    bad = served_command.folder / "bad.csv"
    bad.write_text("text,label\n" + "fine,1\n" * 30, encoding="utf-8")
    unfit = retrain(served_command, "--set", f"data.source={bad}")
    assert unfit.code == 1
    assert "It ended with:" in unfit.report
    # what changed was found out before it failed
    assert "| data | " in unfit.report
    assert "Traceback" not in unfit.log


def test_a_champion_that_cannot_be_looked_up_is_an_error(served_command: Command, rejected: Retrained) -> None:
    gone = retrain(served_command, environment={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert gone.code == 1
    assert "does not answer" in gone.report
    damaged = Path(served_command.folder / "damaged.db")
    damaged.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)
    lost = retrain(served_command, environment={"MLFLOW_TRACKING_URI": f"sqlite:///{damaged}"})
    assert lost.code == 1
    assert lost.account["decision"] == "failed"
    assert "There was no champion" not in lost.report


def test_a_report_that_cannot_be_written_is_told_before_anything_runs(command: Command) -> None:
    answer = command("retrain", "sentiment", "--report", str(command.folder / "none" / "report.md"))
    assert answer.returncode == 2
    assert not command.home.exists()
