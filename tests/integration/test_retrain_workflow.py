"""The workflows: their own steps, run in order with bash, with a file registry and with a real MLflow server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.registry import ModelRegistry
from tests.command import ROOT
from tests.github import BOT, Github, Ran, evaluate, filled, workflow_of
from tests.registry_world import MlflowServer, serving

SMALL = (
    "data.sample_size=1500 training.epochs=1 model.hidden_size=24 model.embedding_dim=16 "
    "evaluation.bootstrap_samples=100"
)
SENTIMENT = {"project": "sentiment"}
WORKFLOWS = ("ci", "retrain")


def retrain(github: Github, event: str, **inputs: Any) -> Ran:
    return github.run("retrain", "retrain", event, SENTIMENT, **inputs)


def edit(github: Github, name: str, before: str, after: str) -> None:
    path = github.tree / name
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_and_every_job_bounded_with_no_more_rights_than_it_needs(name: str) -> None:
    workflow = workflow_of(name)
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        assert set(job.get("permissions", {}).items()) <= {("contents", "read"), ("pull-requests", "write")}
        for step in job["steps"]:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) if "uses" in step else step["run"]
            # what others write goes in by the environment, never into a script
            assert "${{" not in step.get("run", "")


def test_what_starts_a_retraining_is_as_the_guide_says() -> None:
    workflow = workflow_of("retrain")
    triggers = workflow[True]  # YAML 1.1 reads `on` so
    assert set(triggers) == {"workflow_dispatch", "schedule", "pull_request"}
    assert triggers["pull_request"]["paths"] == ["configs/**", "src/**"]
    matrix = workflow["jobs"]["retrain"]["strategy"]["matrix"]["project"]
    both = ["sentiment", "language-model"]
    assert filled(matrix, {"inputs": {}}) == filled(matrix, {"inputs": {"project": "both"}}) == both
    assert filled(matrix, {"inputs": {"project": "sentiment"}}) == ["sentiment"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("inputs.a || 'x'", "x"),
        ("${{ inputs.b || 'x' }}", 3),
        ("!cancelled() && inputs.b != 3", False),
        ("inputs.b && format('n {0}', inputs.b) || null", "n 3"),
        ("inputs.c.d", None),
    ],
)
def test_expressions_mean_what_they_mean_on_github(expression: str, value: Any) -> None:
    assert evaluate(expression, {"inputs": {"b": 3}}) == value


CURL = """\
import json, os, sys
place, words = os.environ["FAKE_GITLAB"], sys.argv[1:]
assert open(words[words.index("--config") + 1]).read() == 'header = "PRIVATE-TOKEN: a-token"\\n'
assert "a-token" not in " ".join(words)
notes, url = json.load(open(f"{place}/notes.json")), words[-1]
if "--request" not in words:
    print(json.dumps({"id": 7} if url.endswith("/user") else notes))
    sys.exit()
body = open(words[words.index("--form") + 1].removeprefix("body=<")).read()
if words[words.index("--request") + 1] == "POST":
    notes.append({"id": len(notes) + 1, "author": {"id": 7}, "body": body})
else:
    notes[int(url.rpartition("/")[2]) - 1]["body"] = body
json.dump(notes, open(f"{place}/notes.json", "w"))
"""


def test_on_gitlab_too_a_note_is_changed_and_not_repeated(tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("NO JQ: it is not installed, so nobody ran the script")
    (tmp_path / "curl.py").write_text(CURL, encoding="utf-8")
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} {tmp_path}/curl.py "$@"\n', encoding="utf-8")
    curl.chmod(0o755)
    notes, report = tmp_path / "notes.json", tmp_path / "report.md"
    stranger = {"id": 1, "author": {"id": 8}, "body": "<!-- unroll-retrain:sentiment -->"}
    notes.write_text(json.dumps([stranger]), encoding="utf-8")
    api = {"CI_API_V4_URL": "http://gitlab.example/api/v4", "CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "12"}
    environment = (
        os.environ
        | api
        | {
            **{"PATH": f"{curl.parent}:{os.environ['PATH']}", "FAKE_GITLAB": str(tmp_path), "REPORT": str(report)},
            "NOTE_TOKEN": "a-token",
        }
    )
    for text in ("first", "second"):
        report.write_text(f"<!-- unroll-retrain:sentiment -->\n\n{text}\n", encoding="utf-8")
        done = subprocess.run([ROOT / ".ci" / "note"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = json.loads(notes.read_text(encoding="utf-8"))
    assert [note["id"] for note in found] == [1, 2]
    assert found[0] == stranger
    assert found[1]["body"].endswith("second\n")
    (tmp_path / "curl.py").write_text("import sys; sys.exit(22)", encoding="utf-8")
    refused = subprocess.run([ROOT / ".ci" / "note"], env=environment, capture_output=True, text=True)
    assert (refused.returncode, "could not be posted" in refused.stdout) == (0, True)


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Github:
    if shutil.which("jq") is None:
        pytest.skip("NO JQ: it is not installed, so nobody ran the workflow's steps")
    return Github.make(tmp_path_factory.mktemp("github"), {"UNROLL_SETTINGS": SMALL})


@pytest.fixture(scope="module")
def scheduled(github: Github) -> Ran:
    return retrain(github, "schedule")


@pytest.fixture(scope="module")
def again(github: Github, scheduled: Ran) -> Ran:
    return retrain(github, "schedule")


@pytest.fixture(scope="module")
def pulled(github: Github, again: Ran) -> Ran:
    edit(github, "configs/sentiment/sample.yaml", "learning_rate: 0.003", "learning_rate: 0.004")
    edit(github, "src/unroll/training/fit.py", "from __future__", "# a change\nfrom __future__")
    return retrain(github, "pull_request")


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestFileRegistry:
    def test_a_schedule_trains_the_first_champion_and_keeps_it_in_the_cache(
        self, github: Github, scheduled: Ran
    ) -> None:
        assert scheduled.succeeded, scheduled.log
        assert scheduled.outputs["decision"] == "promoted"
        assert "## Sentiment: version 1 of unroll-sentiment, promoted" in scheduled.summary
        assert (github.place / "cache" / "retrain-sentiment-Linux-1-1" / ".unroll" / "mlflow.db").exists()
        kept = scheduled.artifacts / "retrain-sentiment"
        assert {path.name for path in kept.iterdir()} == {"report.md", "report.html", "summary.json"}
        assert github.calls() == []

    def test_the_next_one_finds_it_there_and_has_nothing_to_do(self, again: Ran) -> None:
        assert again.succeeded, again.log
        assert again.outputs["decision"] == "skipped"
        assert "version 1 of unroll-sentiment, the champion" in again.summary

    def test_a_pull_request_is_judged_and_told_in_one_comment(self, github: Github, pulled: Ran) -> None:
        assert pulled.succeeded, pulled.log
        assert pulled.outputs["decision"] == "held"
        (comment,) = github.comments
        assert comment["path"] == "repos/someone/unroll/issues/12/comments"
        body = comment["body"]
        assert body == pulled.summary == (pulled.artifacts / "retrain-sentiment" / "report.md").read_text("utf-8")
        assert body.startswith("<!-- unroll-retrain:sentiment -->\n")
        assert "| setting | `training.learning_rate` | `0.003` | `0.004` |" in body
        assert "| code | `unroll.training.fit` |" in body
        assert "`registry.promote=false`" in body
        assert not (github.place / "cache" / "retrain-sentiment-Linux-3-1").exists(), "a pull request keeps nothing"

    def test_the_comment_is_changed_and_not_repeated_and_others_are_left_alone(
        self, github: Github, pulled: Ran
    ) -> None:
        path = github.place / "comments.json"
        first = github.comments[0]
        stranger = {**first, "id": 2, "user": {"login": "mallory"}}
        other = {"id": 3, "user": {"login": BOT}, "body": "<!-- unroll-retrain:language-model -->\nx"}
        path.write_text(json.dumps([first, stranger, other]), encoding="utf-8")
        edit(github, "configs/sentiment/sample.yaml", "learning_rate: 0.004", "learning_rate: -1")
        failed = retrain(github, "pull_request")
        assert not failed.succeeded
        assert failed.outputs["exit_code"] == "2"
        comments = github.comments
        assert len(comments) == 3
        assert "the retraining failed" in comments[0]["body"]
        assert comments[1:] == [stranger, other]
        assert "the retraining failed" in failed.summary
        edit(github, "configs/sentiment/sample.yaml", "learning_rate: -1", "learning_rate: 0.004")

    def test_a_fork_may_not_comment_and_has_the_summary(self, github: Github, pulled: Ran) -> None:
        before = github.comments
        (github.place / "read-only").touch()
        forked = retrain(github, "pull_request")
        (github.place / "read-only").unlink()
        assert forked.succeeded, forked.log
        assert "::warning::the report could not be posted" in forked.log
        assert github.comments == before
        assert "version 2 of unroll-sentiment" in forked.summary

    def test_by_hand_it_fails_on_hold_where_that_is_asked_for(self, github: Github, pulled: Ran) -> None:
        settings = f"{SMALL} training.learning_rate=0.0001"
        ran = retrain(github, "workflow_dispatch", settings=settings, fail_on_hold=True, reason="$(touch /tmp/x) `id`")
        assert not ran.succeeded
        assert ran.outputs["exit_code"] == "3"
        assert "$(touch" not in ran.summary
        assert "touch /tmp/x" in ran.summary
        assert list((ran.artifacts / "retrain-sentiment").iterdir())


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_a_registry_of_ones_own_a_pull_request_is_judged_there_and_moves_no_alias(
    tmp_path: Path, mlflow_server: MlflowServer
) -> None:
    if shutil.which("jq") is None:
        pytest.skip("NO JQ: it is not installed, so nobody ran the workflow's steps")
    github = Github.make(tmp_path, {"UNROLL_SETTINGS": SMALL})
    github.secrets = {"MLFLOW_TRACKING_URI": mlflow_server.url}
    first = retrain(github, "workflow_dispatch", reason="a first champion")
    assert first.succeeded, first.log
    edit(github, "configs/sentiment/sample.yaml", "learning_rate: 0.003", "learning_rate: 0.02")
    github.variables = {"UNROLL_SETTINGS": SMALL.replace("epochs=1", "epochs=8")}
    pulled = retrain(github, "pull_request")
    assert pulled.succeeded, pulled.log
    assert "passes the gate, not promoted here" in pulled.summary
    registry = ModelRegistry(mlflow_server.url)
    champion = registry.champion("unroll-sentiment")
    assert champion is not None
    assert champion.number == "1"
    assert registry.by_alias("unroll-sentiment", "challenger") is None
    for page in ("versions/1", "versions/2", "/#/experiments/"):
        assert f"{mlflow_server.url}" in pulled.summary
        assert page in pulled.summary
    # merged: the same model, found trained, becomes champion
    merged = retrain(github, "schedule")
    assert merged.outputs["decision"] == "promoted"
    assert merged.succeeded, merged.log
    mlflow_server.kill()
    lost = retrain(github, "schedule")
    assert not lost.succeeded
    assert "does not answer" in lost.summary
    assert "There was no champion" not in lost.summary
