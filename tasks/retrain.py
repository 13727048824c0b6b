"""A retraining's dealings with the registry: who is to be beaten, what changed since, and what came of it."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.origin import current_origin, read_origin
from tasks.promotion import Promotions
from tasks.register import WOULD_PROMOTE, read_registration
from tasks.registry import TEST_TAG, WEIGHTS_TAG, ModelRegistry, Version
from tasks.stage import StageContext, StageResult
from tasks.tracked_run import reaching_mlflow, without_password
from unroll.config import AnyConfig, registered_name
from unroll.errors import RegistryError
from unroll.evaluation.decisions import Entry
from unroll.evaluation.report import EvaluationReport
from unroll.evaluation.retrain_charts import thin
from unroll.evaluation.retrain_report import render_markdown
from unroll.retraining import Account, Champion, Change, Cost, Curve, differences, in_words
from unroll.training.energy import ENERGY_FILE
from unroll.training.metrics import History

logger = logging.getLogger("unroll.retrain")

CURVES = ("train/loss", "validation/accuracy", "validation/bits_per_char")


@task(name="compare with champion", persist_result=False, cache_policy=NO_CACHE)
def compare_with_champion(
    config: AnyConfig, tracking_uri: str, store_root: str
) -> tuple[Champion | None, list[Change] | None]:
    """The champion of the registry, and what is not as it was when its model was made; None where nobody can tell.

    Raises RegistryError where the champion cannot be told for certain, or its run cannot be read.
    """
    registry, name = ModelRegistry(tracking_uri), registered_name(config)
    version = _champion(registry, name, store_root)
    if version is None:
        logger.info("%s has no champion", name)
        return None, None
    client = MlflowClient(tracking_uri=tracking_uri)
    champion = Champion(
        name=name,
        version=version.number,
        run_id=version.run_id,
        weights_sha256=version.tags.get(WEIGHTS_TAG, ""),
        test_digest=version.tags.get(TEST_TAG, ""),
        metrics=_metrics(client, version),
        page=_page(tracking_uri, name, version.number),
    )
    before = read_origin(client, version.run_id)
    if before is None:
        logger.warning("the run of the champion, version %s of %s, is gone: taken as changed", version.number, name)
        return champion, None
    changes = differences(before, current_origin(config))
    logger.info("changed since the champion, version %s of %s: %s", version.number, name, in_words(changes))
    return champion, changes


@task(name="conclude", persist_result=False, cache_policy=NO_CACHE)
def conclude(
    account: Account, context: StageContext, stages: Mapping[str, StageResult], summary: dict[str, Any]
) -> Account:
    """Take into the account what the stages made and the gate decided."""
    registration = read_registration(stages["register"])
    evidence = registration["evidence"] or {}
    account.summary = {name: value for name, value in summary.items() if name != "passages"}
    account.decision, account.reason = registration["outcome"], registration["reason"]
    account.comparison, account.would_promote = evidence.get("champion"), WOULD_PROMOTE in evidence
    champion = account.champion
    if champion is not None:
        account.is_champions_model = champion.weights_sha256 == summary["model"]["weights_sha256"]
        evaluation = EvaluationReport.load(stages["evaluate"].artifact.folder)
        account.same_items = champion.test_digest == evaluation.test_digest
    account.curves = _curves(context, stages["train"], champion)
    account.cost = _cost(stages["train"], summary)
    account.plots = str(stages["evaluate"].artifact.folder / "plots")
    name, number = registration["name"], registration["version"]
    pages = {"MLflow run": context.run().url(), "version": _page(context.tracking_uri, name, number)}
    account.links = {what: page for what, page in pages.items() if page is not None}
    _tell_how_it_stands(account, context, name, number)
    return account


def was_judged_against_another(account: Account, context: StageContext, stages: Mapping[str, StageResult]) -> bool:
    """Whether the decision is an old one, about a champion that is none any more.

    Such a version is judged anew; but one that was champion itself is not: what took its place, or the person who took
    the title from it, has the last word.
    """
    registration = read_registration(stages["register"])
    if not stages["register"].skipped or registration["outcome"] == "promoted" or account.champion is None:
        return False
    entries = _promotions(context, registration["name"]).entries()
    ours = [entry for entry in entries if entry.version == registration["version"]]
    judged = [entry for entry in ours if entry.judge == "gate"]
    if any(entry.moves for entry in ours) or not judged:
        return False
    return judged[-1].champion != account.champion.version


@task(name="report on retraining", persist_result=False, cache_policy=NO_CACHE)
def report_retraining(account: Account, context: StageContext | None) -> None:
    """The report as a Prefect artifact, and in the MLflow run where there is one."""
    slug = account.project.replace("_", "-")
    create_markdown_artifact(
        render_markdown(account, draw=lambda _: []),
        key=f"retrain-report-{slug}",
        description=f"Retraining of {account.project}: {account.decision}",
    )
    if context is not None:
        context.run().log_text(render_markdown(account), "retrain/report.md")


def _champion(registry: ModelRegistry, name: str, store_root: str) -> Version | None:
    # only the registry's own word that the model was never registered counts as no champion
    if not registry.versions(name):
        return None
    promotions = Promotions(registry, name, Path(store_root))
    return promotions.champion(promotions.look())


def _promotions(context: StageContext, name: str) -> Promotions:
    return Promotions(ModelRegistry(context.tracking_uri), name, Path(context.store_root))


def _metrics(client: MlflowClient, version: Version) -> dict[str, dict[str, float]]:
    """Test metrics of the champion's run with their intervals; the values alone, of its version, where that is gone."""
    try:
        with reaching_mlflow(client):
            found = client.get_run(version.run_id).data.metrics
    except RegistryError:
        found = {}
    names = [name for name in found if name.startswith("test/") and f"{name}_low" in found]
    if not names:
        tags = {key.removeprefix("unroll."): value for key, value in version.tags.items()}
        return {name: {"value": float(value)} for name, value in tags.items() if name.startswith("test/")}
    return {name: {"value": found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"]} for name in names}


def _curves(context: StageContext, trained: StageResult, champion: Champion | None) -> list[Curve]:
    histories = {"this version": History(trained.artifact.folder / "history.jsonl").read()}
    if champion is not None and champion.run_id != context.run_id:
        histories[f"champion (version {champion.version})"] = _history_of(context.tracking_uri, champion.run_id)
    curves = []
    for metric in CURVES:
        lines = {name: thin(_points(history, metric)) for name, history in histories.items()}
        lines = {name: points for name, points in lines.items() if points}
        if "this version" in lines:
            curves.append(Curve(metric, lines))
    return curves


def _points(history: Sequence[Mapping[str, float]], metric: str) -> list[list[float]]:
    return [[float(point["step"]), float(point[metric])] for point in history if point.get(metric) is not None]


def _history_of(tracking_uri: str, run_id: str) -> list[dict[str, float]]:
    """The curves of a run; none where its artifact is gone: they are for the eye, nothing is decided by them."""
    client = MlflowClient(tracking_uri=tracking_uri)
    try:
        with reaching_mlflow(client), tempfile.TemporaryDirectory() as scratch:
            return History(Path(client.download_artifacts(run_id, "training/history.jsonl", scratch))).read()
    except RegistryError as error:
        logger.warning("the champion's curves cannot be read: %s", error)
        return []


def _cost(trained: StageResult, summary: Mapping[str, Any]) -> Cost:
    training = summary["training"]
    if trained.skipped:
        return Cost(float(summary["seconds"]), 0.0, str(training["device"]))
    file = trained.artifact.folder / ENERGY_FILE
    energy: dict[str, float | None] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return Cost(
        float(summary["seconds"]),
        float(training["seconds"]),
        str(training["device"]),
        energy.get("processor_joules"),
        energy.get("gpu_joules"),
    )


def _tell_how_it_stands(account: Account, context: StageContext, name: str, number: str) -> None:
    """An old decision may have been overtaken: by a later champion, or by a person."""
    promotions = _promotions(context, name)
    champion = promotions.look().standing.champion
    if champion == number and account.champion is not None and account.champion.version == number:
        account.decision, account.reason = "skipped", f"The model that came out is the champion, version {number}."
    elif account.decision == "promoted" and champion != number:
        last = _last_move(promotions.entries())
        by = f", {last.verdict} by {last.asked_by}: {last.reason}" if last is not None else ""
        account.decision = "held"
        account.reason = (
            f"Version {number} was champion before; now version {champion} is{by} What comes after that is for a "
            f"person to decide: unroll models promote {name}/{number} --reason WHY"
        )


def _last_move(entries: Sequence[Entry]) -> Entry | None:
    return next((entry for entry in reversed(entries) if entry.moves), None)


def _page(tracking_uri: str, name: str, number: str) -> str | None:
    """A version's page; the embedded store has none unless `unroll ui` runs."""
    if not tracking_uri.startswith(("http://", "https://")):
        return None
    return f"{without_password(tracking_uri).rstrip('/')}/#/models/{name}/versions/{number}"
