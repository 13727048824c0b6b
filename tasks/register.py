"""The register stage: a new version of the registered model, and the gate's decision on it.

Fails closed: whatever goes wrong while the champion is looked up, loaded or scored is an error, never "no champion".
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.registry import CHALLENGER, CHAMPION, MODEL_TAG, ModelRegistry, Version
from tasks.stage import StageContext, StageResult, run_stage, stage_task
from unroll.config import AnyConfig, flatten, registered_name
from unroll.errors import RegistryError
from unroll.evaluation.gate import Decision, compare_with_champion, judge_against, judge_first
from unroll.evaluation.report import EvaluationReport
from unroll.files import write_json
from unroll.store import StageKey, source_digests

logger = logging.getLogger("unroll.register")

FILE_NAME = "registration.json"


@stage_task("register")
def register(
    config: AnyConfig, context: StageContext, corpus: StageResult, model: StageResult, evaluation: StageResult
) -> StageResult:
    """Add the model to the registry and let the gate decide on it.

    Skipped where this model was registered already, and its version is still in the registry.
    """
    key = StageKey(
        config.project,
        "register",
        {"model": model.artifact.digest, "evaluation": evaluation.artifact.digest, "registry": context.tracking_uri},
        {f"registry.{name}": value for name, value in flatten(config.registry.model_dump(mode="json")).items()},
        source_digests(["unroll.evaluation.gate"]),
    )
    _forget_lost_version(context, key)
    return run_stage(context, key, lambda folder: _register(config, context, corpus, model, evaluation, folder))


def read_registration(result: StageResult) -> dict[str, Any]:
    """What the register stage did: name, version, decision, reason, evidence."""
    registration: dict[str, Any] = json.loads((result.artifact.folder / FILE_NAME).read_text(encoding="utf-8"))
    return registration


def _forget_lost_version(context: StageContext, key: StageKey) -> None:
    artifact = context.store.find(key)
    if artifact is None:
        return
    known = json.loads((artifact.folder / FILE_NAME).read_text(encoding="utf-8"))
    numbers = {version.number for version in ModelRegistry(context.tracking_uri).versions(known["name"])}
    if known["version"] not in numbers:
        logger.warning("version %s of %s is no longer in the registry", known["version"], known["name"])
        context.store.remove(key)


def _register(
    config: AnyConfig,
    context: StageContext,
    corpus: StageResult,
    model: StageResult,
    evaluation: StageResult,
    folder: Path,
) -> None:
    registry = ModelRegistry(context.tracking_uri)
    name = registered_name(config)
    report = EvaluationReport.load(evaluation.artifact.folder)
    training = json.loads((model.artifact.folder / "training.json").read_text(encoding="utf-8"))
    tags = {
        MODEL_TAG: model.artifact.digest,
        "unroll.weights_sha256": training["weights_sha256"],
        "unroll.test_digest": report.test_digest,
        **{f"unroll.{metric}": f"{interval.value:.6g}" for metric, interval in report.metrics.items()},
    }
    version = registry.register(config, name, model.artifact.folder, context.run_id, tags)
    logger.info("registered version %s of %s", version.number, name)
    decision = _decide(config, registry, version, corpus, evaluation, report)
    _carry_out(registry, version, decision)
    write_json(folder / FILE_NAME, {"name": name, "version": version.number, **asdict(decision)})


def _decide(
    config: AnyConfig,
    registry: ModelRegistry,
    version: Version,
    corpus: StageResult,
    evaluation: StageResult,
    report: EvaluationReport,
) -> Decision:
    champion = registry.champion(version.name)
    if champion is None:
        return judge_first(report, config.registry.gate)
    if champion.number == version.number:
        return Decision("promoted", "this version is the champion already")
    if champion.tags.get("unroll.weights_sha256") == version.tags.get("unroll.weights_sha256"):
        return Decision("held", f"its weights are those of the champion, version {champion.number}")
    logger.info("scoring the champion, version %s, on the same test items", champion.number)
    with registry.model_folder(champion) as champion_folder:
        comparison = compare_with_champion(config, corpus.artifact.folder, champion_folder, evaluation.artifact.folder)
    if registry.champion(version.name) != champion:
        raise RegistryError(
            f"The champion of {version.name} changed while version {version.number} was compared with version "
            f"{champion.number}; run again with --from register."
        )
    return judge_against(comparison)


def _carry_out(registry: ModelRegistry, version: Version, decision: Decision) -> None:
    registry.tag(version, {"unroll.decision": decision.outcome, "unroll.decision_reason": decision.reason[:4000]})
    registry.describe(version, f"**{decision.outcome}**: {decision.reason}")
    if decision.outcome == "promoted":
        registry.set_alias(version, CHAMPION)
        challenger = registry.by_alias(version.name, CHALLENGER)
        if challenger is not None and int(challenger.number) <= int(version.number):
            registry.drop_alias(version.name, CHALLENGER)
    else:
        registry.set_alias(version, CHALLENGER)
    logger.info("version %s is %s: %s", version.number, decision.outcome, decision.reason)
