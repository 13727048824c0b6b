"""The MLflow and Prefect pages on the embedded stores, in a real browser: what a person sees after a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.run_table import run_path

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

UNROLL = [sys.executable, "-m", "flows.cli"]
SMALL = ["--set", "training.epochs=2", "--set", "training.log_every=2", "--set", "model.hidden_size=32"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("pages")
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return ours | {"UNROLL_HOME": str(root / ".unroll"), "HOME": str(root), "OMP_WAIT_POLICY": "PASSIVE"}


@pytest.fixture(scope="module")
def summary(environment: dict[str, str]) -> dict[str, Any]:
    path = Path(environment["HOME"]) / "summary.json"
    command = [*UNROLL, "run", "sentiment", *SMALL, "--set", "data.sample_size=1500", "--summary", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def pages(environment: dict[str, str], summary: dict[str, Any]) -> Iterator[dict[str, str]]:
    command = [*UNROLL, "ui", "--no-open", "--mlflow-port", "0", "--prefect-port", "0"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        urls = dict(server.stdout.readline().split() for _ in range(3))
        yield urls
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1400, "height": 1000})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


def keep(page: Any, name: str) -> None:
    """Keep a screenshot where UNROLL_SCREENSHOTS asks for it, for people to look at."""
    folder = os.environ.get("UNROLL_SCREENSHOTS")
    if folder:
        time.sleep(3)  # charts draw themselves after their text is there
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def check_view_for_training(page: Any) -> None:
    """MLflow's menu is that for training, in a browser whose user has not chosen: the other one is about prompts."""
    page.get_by_text("Model registry", exact=True).first.wait_for()
    assert page.get_by_text("Evaluation runs", exact=True).count() == 0


def test_mlflow_shows_the_runs_report(page: Any, pages: dict[str, str], summary: dict[str, Any]) -> None:
    page.goto(pages["MLflow"] + run_path("1", summary["mlflow_run_id"]))
    page.get_by_text("version 1 promoted").first.wait_for()
    page.get_by_text("test/accuracy").first.wait_for()
    page.get_by_text("training.learning_rate").first.wait_for()
    check_view_for_training(page)
    keep(page, "mlflow-overview")


def test_mlflow_draws_the_curves(page: Any, pages: dict[str, str], summary: dict[str, Any]) -> None:
    page.goto(f"{pages['MLflow']}/#/experiments/1/runs/{summary['mlflow_run_id']}/model-metrics")
    # a section draws its charts when it comes into view
    page.get_by_text("train", exact=True).first.scroll_into_view_if_needed()
    page.get_by_text("gradient_norm", exact=True).first.scroll_into_view_if_needed()
    page.locator(".js-plotly-plot svg.main-svg").first.wait_for()
    keep(page, "mlflow-curves")


def test_mlflow_holds_the_plots(page: Any, pages: dict[str, str], summary: dict[str, Any]) -> None:
    page.goto(f"{pages['MLflow']}/#/experiments/1/runs/{summary['mlflow_run_id']}/artifacts/plots/learning_curves.png")
    page.get_by_text("learning_curves.png").first.wait_for()
    page.wait_for_function("[...document.images].some(image => image.naturalWidth > 400)")
    keep(page, "mlflow-plots")


def test_mlflow_opens_the_prepared_run_table(page: Any, pages: dict[str, str]) -> None:
    page.set_viewport_size({"width": 2400, "height": 1000})  # columns out of sight are not drawn
    page.goto(pages["unroll-sentiment"])
    for column in ("rival/test/accuracy", "test/accuracy", "training/seconds", "data.source", "model.cell"):
        page.get_by_text(column, exact=True).first.wait_for()
    page.get_by_text("Results, rival and settings").first.wait_for()
    check_view_for_training(page)
    keep(page, "mlflow-run-table")


def test_mlflow_shows_the_versions_card(page: Any, pages: dict[str, str]) -> None:
    page.goto(f"{pages['MLflow']}/#/models/unroll-sentiment/versions/1")
    page.get_by_text("Intended use").first.wait_for()
    keep(page, "mlflow-version")


def test_mlflow_links_to_the_flow_run(page: Any, pages: dict[str, str], summary: dict[str, Any]) -> None:
    page.goto(f"{pages['MLflow']}/#/experiments/1/runs/{summary['mlflow_run_id']}")
    link = page.locator(f"a[href*='{summary['flow_run_id']}']").first
    link.wait_for()
    assert link.get_attribute("href") == f"http://127.0.0.1:4200/flow-runs/flow-run/{summary['flow_run_id']}"


def test_mlflow_lists_the_champion(page: Any, pages: dict[str, str]) -> None:
    page.goto(f"{pages['MLflow']}/#/models/unroll-sentiment")
    page.get_by_text("champion").first.wait_for()
    keep(page, "mlflow-model")


def test_prefect_shows_every_stage_of_the_run(page: Any, pages: dict[str, str], summary: dict[str, Any]) -> None:
    page.goto(f"{pages['Prefect']}/runs/flow-run/{summary['flow_run_id']}")
    page.get_by_text("Completed").first.wait_for()
    page.get_by_text("Task Runs").first.click()
    for stage in ("download", "validate", "encode", "train", "evaluate", "register"):
        page.get_by_text(stage).first.wait_for()
    keep(page, "prefect-run")


def test_prefect_names_the_run_and_shows_its_artifacts(
    page: Any, pages: dict[str, str], summary: dict[str, Any]
) -> None:
    page.goto(f"{pages['Prefect']}/flow-runs/flow-run/{summary['flow_run_id']}")  # as the MLflow run links to it
    page.get_by_text("sentiment sample", exact=True).first.wait_for()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("training-sentiment").first.wait_for()
    page.get_by_text("run-report-sentiment").first.wait_for()
    keep(page, "prefect-artifacts")


def test_prefect_shows_how_far_training_came(page: Any, pages: dict[str, str]) -> None:
    page.goto(f"{pages['Prefect']}/artifacts/key/training-sentiment")
    page.get_by_text("Training, sentiment: done").first.wait_for()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    page.get_by_text("100%").first.wait_for()
    keep(page, "prefect-progress")


def test_prefect_shows_the_report(page: Any, pages: dict[str, str], summary: dict[str, Any]) -> None:
    page.goto(f"{pages['Prefect']}/artifacts/key/run-report-sentiment")
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    page.get_by_text("test/accuracy").first.wait_for()
    page.get_by_text("version 1 promoted").first.wait_for()
    href = page.get_by_role("link", name=f"MLflow run {summary['mlflow_run_id']}").first.get_attribute("href")
    assert href == "http://127.0.0.1:5000" + run_path("1", summary["mlflow_run_id"])
    keep(page, "prefect-report")
