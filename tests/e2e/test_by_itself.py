"""What happens when nobody is there: schedules, events, killed workers and alerts, on the whole stack."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.command import Command
from tests.github import Github
from tests.prefect_world import Hook, wait_until
from tests.stack_world import Stack, new_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    "data.sample_size=240",
    "training.epochs=1",
    "model.hidden_size=8",
    "model.embedding_dim=8",
    "evaluation.rival=false",
    "evaluation.bootstrap_samples=100",
]
SECONDS_TO_RETRY = 180.0

Fields = dict[str, Any]


class Prefect:
    """The stack's Prefect server, asked as its page does."""

    def __init__(self, stack: Stack) -> None:
        user, _, password = stack.secrets["PREFECT_API_AUTH_STRING"].partition(":")
        url = f"http://127.0.0.1:{stack.ports['prefect']}/api"
        self._client = httpx.Client(base_url=url, auth=(user, password), timeout=30)

    def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self._client.request(method, path, json=body)

    def deployment(self, name: str) -> Fields:
        found: Fields = self("GET", f"/deployments/name/{name}").json()
        return found

    def begin(self, name: str, **parameters: Any) -> Fields:
        answer = self("POST", f"/deployments/{self.deployment(name)['id']}/create_flow_run", {"parameters": parameters})
        assert answer.status_code == 201, answer.text
        begun: Fields = answer.json()
        return begun

    def schedule_once(self, name: str, at: datetime, **parameters: Any) -> None:
        schedule = {"interval": 86_400.0, "anchor_date": at.isoformat()}
        body = [{"schedule": schedule, "active": True, "parameters": parameters}]
        answer = self("POST", f"/deployments/{self.deployment(name)['id']}/schedules", body)
        assert answer.status_code == 201, answer.text

    def runs(self, name: str) -> list[Fields]:
        body = {"deployments": {"id": {"any_": [self.deployment(name)["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[Fields] = self("POST", "/flow_runs/filter", body).json()
        return found

    def run(self, run_id: str) -> Fields:
        found: Fields = self("GET", f"/flow_runs/{run_id}").json()
        return found

    def states(self, run_id: str) -> list[str]:
        return [state["name"] for state in self("GET", f"/flow_run_states/?flow_run_id={run_id}").json()]

    def to_its_end(self, run_id: str, seconds: float = 240) -> Fields:
        wait_until(lambda: self.run(run_id)["state_type"] in ("COMPLETED", "FAILED", "CANCELLED"), seconds)
        return self.run(run_id)


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.close()


@pytest.fixture(scope="module")
def stack(hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    said = tmp_path_factory.mktemp("alerts") / "said"
    command = f'(echo "$UNROLL_ALERT_SUBJECT"; cat) >> {said}'
    with new_stack(UNROLL_WEBHOOK_URL=hook.url, UNROLL_ALERT_COMMAND=command, UNROLL_TIMEZONE="Europe/Madrid") as made:
        made.up()
        yield made


@pytest.fixture(scope="module")
def prefect(stack: Stack) -> Prefect:
    return Prefect(stack)


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
    def automations() -> list[str]:
        return sorted(each["name"] for each in prefect("POST", "/automations/filter", {}).json())

    before = automations()
    assert "retrain on a change or a drift" in before
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


def test_a_killed_workers_run_is_marked_crashed_started_again_and_ends_well(
    stack: Stack, prefect: Prefect, hook: Hook
) -> None:
    settings = ["data.sample_size=4000", "training.epochs=500", "training.max_minutes=0.6", *SMALL[2:]]
    settings += ["training.checkpoint_seconds=1", "training.patience=500"]
    run_id = prefect.begin("train-sentiment/nightly", preset="sample", settings=settings)["id"]
    wait_until(lambda: prefect.run(run_id)["state_name"] == "Running", 120)
    checkpoints = stack.folder / ".unroll" / "work" / "sentiment"
    wait_until(lambda: any(checkpoints.glob("train-*/*/*")) or any(checkpoints.glob("train-*/*")), 120)
    time.sleep(8)
    killed = time.monotonic()
    for process in stack.processes("worker"):
        process.kill()
    wait_until(lambda: prefect.states(run_id).count("Running") == 2, SECONDS_TO_RETRY)
    print(f"running again after {time.monotonic() - killed:.0f} s: {prefect.states(run_id)}")
    assert "Crashed" in prefect.states(run_id)
    ended = prefect.to_its_end(run_id)
    assert ended["state_name"] == "Completed", ended["state"]["message"]
    assert ended["run_count"] == 2
    wait_until(lambda: hook.was_told("crashed", "started again by itself"), 30)
    done = stack.unroll("run", "sentiment", *as_options(settings), "--summary", str(stack.folder / "killed.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((stack.folder / "killed.json").read_text())["training"]["resumed_from_step"] > 0


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
