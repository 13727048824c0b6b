"""The register stage: a new version of the registered model, and the gate's decision on it.

Fails closed: whatever goes wrong while the champion is looked up, loaded or scored is an error, never "no champion".
Killed at any instant and run again, the stage finds its version by the model's digest and its decision, if it was
entered, by the stage's key; see `tasks.ledger` for what is atomic.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tasks.card import write_card
from tasks.promotion import Promotions, gate_entry
from tasks.registry import CHALLENGER, MODEL_TAG, TEST_TAG, VOCABULARY_TAG, WEIGHTS_TAG, ModelRegistry, Version
from tasks.stage import StageContext, StageResult, run_stage, stage_task
from tasks.tracked_run import LONGEST_TAG
from unroll.config import AnyConfig, flatten, registered_name
from unroll.data.encoders import load_encoder
from unroll.errors import CheckpointError, RegistryError
from unroll.evaluation.decisions import Decision, Outcome
from unroll.evaluation.report import EvaluationReport
from unroll.files import write_json
from unroll.store import StageKey, source_digests

logger = logging.getLogger("unroll.register")

FILE_NAME = "registration.json"
WOULD_PROMOTE = "would_promote"
"""Question of the evidence where the gate passed a version that ``registry.promote=false`` kept from the title."""


@dataclass(frozen=True)
class Candidate:
    """What a run made, on its way into the registry."""

    corpus: StageResult
    data_report: StageResult
    encoded: StageResult
    model: StageResult
    evaluation: StageResult

    @property
    def report(self) -> EvaluationReport:
        """Its metrics on the test split."""
        return EvaluationReport.load(self.evaluation.artifact.folder)


@stage_task("register")
def register(config: AnyConfig, context: StageContext, candidate: Candidate) -> StageResult:
    """Add the model to the registry and let the gate decide on it.

    Skipped where this model was registered already, and its version is still in the registry.
    """
    key = StageKey(
        config.project,
        "register",
        {
            "model": candidate.model.artifact.digest,
            "evaluation": candidate.evaluation.artifact.digest,
            "registry": context.tracking_uri,
        },
        {f"registry.{name}": value for name, value in flatten(config.registry.model_dump(mode="json")).items()},
        source_digests(["unroll.evaluation.gate"]),
    )
    _forget_lost_version(context, key)
    return run_stage(context, key, lambda folder: _register(config, context, candidate, key.digest, folder))


def read_registration(result: StageResult) -> dict[str, Any]:
    """What the register stage did: name, version, outcome, reason, evidence."""
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


def _register(config: AnyConfig, context: StageContext, candidate: Candidate, request: str, folder: Path) -> None:
    registry = ModelRegistry(context.tracking_uri)
    name = registered_name(config)
    model_folder = candidate.model.artifact.folder
    version = registry.register(config, name, model_folder, context.run_id, _tags(candidate))
    logger.info("registered version %s of %s", version.number, name)

    promotions = Promotions(registry, name, Path(context.store_root))
    title = promotions.look()
    entered = None if context.forces("register") else promotions.find(request, version)
    if entered is not None:
        decision = Decision(cast(Outcome, entered.verdict), entered.reason, entered.evidence)
    elif title.standing.champion == version.number:
        decision = Decision("promoted", "this version is the champion already")
    else:
        decision = _decide(config, registry, promotions.champion(title), version, candidate)
        if decision.outcome == "promoted":
            _reload(config, registry, version, candidate)
            decision = decision if config.registry.promote else _only_judged(decision, version)
        promotions.record(gate_entry(title, version, decision, request, candidate.corpus.artifact.digest))

    _make_known(registry, version, decision, may_move=config.registry.promote)
    write_card(config, context, registry, version, decision, candidate)
    logger.info("version %s is %s: %s", version.number, decision.outcome, decision.reason)
    write_json(folder / FILE_NAME, {"name": name, "version": version.number, **asdict(decision)})


def _tags(candidate: Candidate) -> dict[str, str]:
    folder, report = candidate.model.artifact.folder, candidate.report
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return {
        MODEL_TAG: candidate.model.artifact.digest,
        WEIGHTS_TAG: training["weights_sha256"],
        VOCABULARY_TAG: load_encoder(folder).vocabulary.digest,
        TEST_TAG: report.test_digest,
        "unroll.data_digest": candidate.corpus.artifact.digest,
        **{f"unroll.{metric}": f"{interval.value:.6g}" for metric, interval in report.metrics.items()},
    }


def _decide(
    config: AnyConfig, registry: ModelRegistry, champion: Version | None, version: Version, candidate: Candidate
) -> Decision:
    from unroll.evaluation.gate import compare_with_champion, judge_against, judge_first

    if champion is None:
        return judge_first(config, candidate.evaluation.artifact.folder)
    if champion.tags.get(WEIGHTS_TAG) == version.tags.get(WEIGHTS_TAG):
        return Decision("held", f"its weights are those of the champion, version {champion.number}")
    logger.info("scoring the champion, version %s, on the same test items", champion.number)
    corpus_folder, evaluation_folder = candidate.corpus.artifact.folder, candidate.evaluation.artifact.folder
    try:
        with registry.model_folder(champion) as champion_folder:
            comparison = compare_with_champion(config, corpus_folder, champion_folder, evaluation_folder)
            decision = judge_against(config, evaluation_folder, comparison)
            vocabulary = load_encoder(champion_folder).vocabulary.digest
    except CheckpointError as error:
        raise RegistryError(
            f"The champion of {champion.name}, version {champion.number}, cannot be loaded, so nothing was promoted: "
            f"{error} Mend it, go back with unroll models rollback {champion.name}, or let version {version.number} "
            f"take its place: unroll models promote {version.name}/{version.number} --reason WHY"
        ) from error
    doubts = []
    if champion.tags.get(TEST_TAG) != candidate.report.test_digest:
        doubts.append("was evaluated on other test items, some of which this version may have been trained on")
    ours = load_encoder(candidate.model.artifact.folder).vocabulary.digest
    if config.registry.require_same_vocabulary and vocabulary != ours:
        doubts.append("has another vocabulary (registry.require_same_vocabulary)")
    if decision.outcome != "promoted" or not doubts:
        return decision
    words = (
        f"{decision.reason} But the champion, version {champion.number}, {' and '.join(doubts)}, so a person decides"
    )
    command = f"unroll models promote {version.name}/{version.number} --reason WHY"
    return Decision("held", f"{words}: {command}", decision.evidence)


def _only_judged(decision: Decision, version: Version) -> Decision:
    """A pass of the gate where it may not promote."""
    command = f"unroll models promote {version.name}/{version.number} --reason WHY"
    words = f"{decision.reason} It passes the gate; registry.promote is false, so a person decides: {command}"
    return Decision("held", words, {**(decision.evidence or {}), WOULD_PROMOTE: {"passed": True}})


def _reload(config: AnyConfig, registry: ModelRegistry, version: Version, candidate: Candidate) -> None:
    from unroll.evaluation.reloading import check_reloaded

    registry.check(version)
    with registry.model_folder(version) as folder:
        number = check_reloaded(config, candidate.corpus.artifact.folder, folder, candidate.evaluation.artifact.folder)
    logger.info(
        "version %s, loaded back from the registry, answers as evaluated on %d test items", version.number, number
    )


def _make_known(registry: ModelRegistry, version: Version, decision: Decision, *, may_move: bool) -> None:
    """Tags and, unless the gate only judges, the alias ``challenger``: for those who look at the model's page.

    The ledger has decided.
    """
    registry.tag(
        version, {"unroll.decision": decision.outcome, "unroll.decision_reason": decision.reason[:LONGEST_TAG]}
    )
    if not may_move:
        return
    challenger = registry.by_alias(version.name, CHALLENGER)
    if decision.outcome != "promoted":
        registry.set_alias(version, CHALLENGER)
    elif challenger is not None and int(challenger.number) <= int(version.number):
        registry.drop_alias(version.name, CHALLENGER)
