"""What happens when nobody is there: schedules, events, killed workers and alerts, on the whole stack."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.automations import PREFIX
from tests.command import Command
from tests.github import Github
from tests.prefect_api import Fields, Prefect
from tests.prefect_world import Hook
from tests.stack_world import Stack, new_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "data.sample_size=240",
    "training.epochs=1",
    "model.hidden_size=8",
    "model.embedding_dim=8",
    "evaluation.rival=false",
    "evaluation.bootstrap_samples=100",
]


@pytest.fixture(scope="module")
def stack(hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    said = tmp_path_factory.mktemp("alerts") / "said"
    command = f'(echo "$UNROLL_ALERT_SUBJECT"; cat) >> {said}'
    with new_stack(UNROLL_WEBHOOK_URL=hook.url, UNROLL_ALERT_COMMAND=command, UNROLL_TIMEZONE="Europe/Madrid") as made:
        made.up()
        yield made


def as_options(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_the_deployments_are_there_with_schedules_queues_and_typed_forms(prefect: Prefect) -> None:
    nightly, weekly = (prefect.deployment(name) for name in ("train-sentiment/nightly", "train-language-model/weekly"))
    assert [schedule["schedule"]["timezone"] for schedule in nightly["schedules"]] == ["Europe/Madrid"]
    assert [schedule["schedule"]["cron"] for schedule in weekly["schedules"]] == ["0 6 * * 0"]
    assert {prefect.deployment(name)["work_queue_name"] for name in ("score/on-demand", "watch/changes")} == {"light"}
    assert {nightly["work_queue_name"], prefect.deployment("retrain/on-change")["work_queue_name"]} == {"training"}
    form = nightly["parameter_openapi_schema"]
    assert form["properties"]["preset"]["description"]
    hidden = form["definitions"]["SentimentModelConfig"]["properties"]["hidden_size"]
    assert (hidden["type"], "description" in hidden, "minimum" in hidden) == ("integer", True, True)


@pytest.mark.browser
def test_the_form_of_a_deployment_shows_every_setting_with_its_words(
    stack: Stack, prefect: Prefect, browser: Any
) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(60_000)
    url = f"http://127.0.0.1:{stack.ports['prefect']}/deployments/deployment"
    page.goto(f"{url}/{prefect.deployment('train-sentiment/nightly')['id']}/run")
    page.locator("input").first.fill(stack.secrets["PREFECT_API_AUTH_STRING"])
    page.keyboard.press("Enter")
    page.get_by_text("Name or path of a preset").wait_for()
    page.get_by_text("SentimentConfig").first.click()
    page.get_by_text("Share of the training rows held out for choosing").wait_for()
    page.close()


@pytest.mark.parametrize(
    "parameters", [{"config": {"model": {"hidden_size": 0}}}, {"config": {"modle": {}}}, {"most_minutes_late": "soon"}]
)
def test_parameters_that_do_not_fit_are_refused_before_there_is_a_run(prefect: Prefect, parameters: Fields) -> None:
    nightly = prefect.deployment("train-sentiment/nightly")["id"]
    answer = prefect("POST", f"/deployments/{nightly}/create_flow_run", {"parameters": parameters})
    assert answer.status_code in (409, 422)


def test_deploying_again_changes_nothing(stack: Stack, prefect: Prefect) -> None:
    def automations() -> dict[str, Any]:
        """Those that `unroll deploy` makes itself; the triggers of deployments are Prefect's to make."""
        found = {each["name"]: each for each in prefect("POST", "/automations/filter", {}).json()}
        assert "retrain on a change or a drift" in found
        return {name: each for name, each in found.items() if name.startswith(PREFIX)}

    # a written one has a new trigger, which has forgotten the runs that it waits for
    before = automations()
    assert len(before) == 4
    done = stack.unroll("deploy")
    assert done.returncode == 0, done.stderr
    assert "train-sentiment/nightly" in done.stdout
    assert automations() == before


def test_a_scheduled_run_starts_by_itself_ends_registered_and_computes_what_the_embedded_stores_do(
    stack: Stack, prefect: Prefect, tmp_path: Path
) -> None:
    due = datetime.now(UTC) + timedelta(seconds=60)
    prefect.schedule_once("train-sentiment/nightly", due, preset="sample", settings=SMALL)

    def begun() -> list[Fields]:
        runs = prefect.runs("train-sentiment/nightly")
        return [run for run in runs if run["parameters"].get("settings") == SMALL and run["start_time"]]

    wait_until(lambda: bool(begun()), 150)
    run = prefect.to_its_end(begun()[0]["id"])
    assert run["auto_scheduled"]
    assert run["state_name"] == "Completed", run["state"]["message"]
    assert "unroll-sentiment" in stack.unroll("models", "list").stdout
    said, heard = prefect.lines(run["id"]), (stack.data / "logs" / "worker.log").read_text()
    assert sum(line.startswith("train: running") for line in said) == 1
    assert [(said.count(line), heard.count(f" - {line}\n")) for line in said] == [(1, 1)] * len(said)

    report = tmp_path / "summary.json"
    done = stack.unroll("run", "sentiment", *as_options(SMALL), "--summary", str(report))
    assert done.returncode == 0, done.stderr
    on_the_stack = json.loads(report.read_text())
    assert [stage["name"] for stage in on_the_stack["stages"] if not stage["skipped"]] == []
    [embedded] = Command(tmp_path).run_plain("sentiment", *as_options(SMALL))
    assert embedded["metrics"] == on_the_stack["metrics"]
    assert embedded["model"]["weights_sha256"] == on_the_stack["model"]["weights_sha256"]


def test_a_scheduled_run_that_comes_too_late_is_skipped_with_the_reason(stack: Stack, prefect: Prefect) -> None:
    due = datetime.now(UTC) + timedelta(seconds=60)
    settings = ["training.epochs=7"]
    prefect.schedule_once("train-sentiment/nightly", due, preset="sample", settings=settings, most_minutes_late=0.1)

    def ours() -> list[Fields]:
        runs = prefect.runs("train-sentiment/nightly")
        return [run for run in runs if run["parameters"].get("settings") == settings]

    wait_until(lambda: bool(ours()), 50)
    asleep = stack.processes("worker")  # as a machine that was off when the run was due
    for process in asleep:
        process.suspend()
    wait_until(lambda: datetime.now(UTC) > due + timedelta(seconds=12), 90)
    for process in asleep:
        process.resume()
    wait_until(lambda: any(run["end_time"] for run in ours()), 120)
    [run] = [run for run in ours() if run["end_time"]]
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Skipped")
    assert run["state"]["message"].startswith("late: it was due at ")


def write_reviews(path: Path, count: int) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for number in range(count):
            word, label = (("dull", "negative"), ("moving", "positive"))[number % 2]
            rows.writerow([f"film {number} was {word}, and scene {number * 7 % 31} was {word} too", label])


def test_a_corpus_that_changes_starts_one_retraining(stack: Stack, prefect: Prefect) -> None:
    path = stack.folder / "reviews.csv"
    write_reviews(path, 200)
    path.chmod(0o644)
    settings = [f"data.source={path}", *SMALL[1:]]
    watched = [{"project": "sentiment", "preset": "sample", "settings": settings}]

    def look() -> str:
        ended = prefect.to_its_end(prefect.begin("watch/changes", watched=watched)["id"])
        assert ended["state_type"] == "COMPLETED", ended["state"]["message"]
        said: str = ended["state"]["message"]
        return said

    assert "first look" in look()
    assert "unchanged" in look()
    assert prefect.runs("retrain/on-change") == []
    write_reviews(path, 240)
    assert "the corpus changed" in look()
    wait_until(lambda: bool(prefect.runs("retrain/on-change")), 60)
    assert "unchanged" in look()
    [run] = prefect.runs("retrain/on-change")
    assert run["parameters"]["settings"] == settings
    assert "the corpus changed" in run["parameters"]["reason"]
    ended = prefect.to_its_end(run["id"])
    assert ended["state_type"] == "COMPLETED", ended["state"]["message"]


def test_a_failure_is_told_once_with_its_words_and_a_page(prefect: Prefect, hook: Hook, stack: Stack) -> None:
    run = prefect.begin("train-sentiment/nightly", preset="sample", settings=["data.source=/nowhere/reviews.csv"])
    ended = prefect.to_its_end(run["id"])
    assert ended["state_name"] == "Failed"
    wait_until(lambda: hook.was_told("failed", "/nowhere/reviews.csv"), 30)
    [text] = [text for text in hook.told if "/nowhere/reviews.csv" in text]
    assert f"http://127.0.0.1:{stack.ports['prefect']}/runs/flow-run/{run['id']}" in text
    assert "Traceback" not in text
    alerts = [each for each in prefect.runs("alert/command") if "/nowhere/reviews.csv" in each["parameters"]["body"]]
    assert len(alerts) == 1
    assert prefect.to_its_end(alerts[0]["id"])["state_name"] == "Completed"


def test_the_workflows_own_steps_retrain_on_the_stack_and_only_with_its_credentials(
    stack: Stack, tmp_path: Path
) -> None:
    if shutil.which("jq") is None:
        pytest.skip("NO JQ: it is not installed, so nobody ran the workflow's steps")
    github = Github.make(tmp_path, {"UNROLL_SETTINGS": " ".join([*SMALL, "registry.name=unroll-from-ci"])})
    known = stack.client_environment()
    github.secrets = {name: known[name] for name in known if name.startswith(("MLFLOW_TRACKING", "PREFECT_API"))}
    trained = github.run("retrain", "retrain", "workflow_dispatch", {"project": "sentiment"}, reason="a release")
    assert trained.succeeded, trained.log
    assert trained.outputs["decision"] == "promoted"
    assert f"{known['MLFLOW_TRACKING_URI']}/#/" in trained.summary
    assert "unroll-from-ci" in stack.unroll("models", "list").stdout
    github.secrets["MLFLOW_TRACKING_PASSWORD"] = "wrong"
    refused = github.run("retrain", "retrain", "workflow_dispatch", {"project": "sentiment"})
    assert not refused.succeeded
    assert "MLFLOW_TRACKING_PASSWORD" in refused.summary


def test_temporary_files_are_in_the_stacks_folder_and_those_of_a_killed_worker_go(stack: Stack) -> None:
    """The system's temporary folder holds nothing of all that the tests before let run."""
    assert [path.name for path in stack.temporary.rglob("*")] == []
    left = stack.data / "tmp" / "worker" / "tmp-of-a-killed-run"
    left.mkdir()
    for process in stack.processes("worker"):
        process.kill()
    wait_until(lambda: not left.exists(), 90)
