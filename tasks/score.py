"""Scoring a file in bulk as a task: which version, with it the parts, and an event where the input has drifted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import mlflow
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks import events
from tasks.registry import CHAMPION, WEIGHTS_TAG, ModelRegistry, Version
from tasks.tracking import PRESET_TAG, attach_run
from unroll.bulk import PART_ROWS, DriftCheck
from unroll.bulk_input import TextTable
from unroll.bulk_output import ScoringFolder, ScoringJob
from unroll.bulk_reviews import score_table
from unroll.bulk_text import PART_PASSAGES, RunningText, is_text_file, score_passages
from unroll.config import AnyConfig, DriftConfig, ProjectName, registered_name
from unroll.errors import ConfigError, RegistryError
from unroll.evaluation.drift import DriftReport
from unroll.models.saved import SavedModel, load_model
from unroll.precision import scoring_precision
from unroll.prediction import SentimentPredictor
from unroll.presets import load_config, make_config, setting_differences
from unroll.reference import read_reference
from unroll.training.checkpoint import weights_sha256
from unroll.training.device import resolve_device

logger = logging.getLogger("unroll.score")


@dataclass(frozen=True)
class ScoringRequest:
    """What a user asks for."""

    input_path: str
    """A table of reviews, or, where it ends in .txt, a running text."""
    output_path: str
    text_column: str = "text"
    """Not read for a running text."""
    model: str | None = None
    """As `tasks.registry.ModelRegistry.resolve` takes it."""
    precision: str = "float32"
    part_rows: int | None = None
    """None: PART_ROWS texts, or PART_PASSAGES passages of a running text."""
    overwrite: bool = False
    """Replace what another job left in the output."""
    drift: DriftConfig = field(default_factory=DriftConfig)

    @property
    def is_text(self) -> bool:
        """Whether the input is a running text."""
        return is_text_file(Path(self.input_path))

    @property
    def project(self) -> ProjectName:
        """Whose model scores it."""
        return "language_model" if self.is_text else "sentiment"


@task(name="score", task_run_name="score", persist_result=False, cache_policy=NO_CACHE)
def score(request: ScoringRequest) -> dict[str, Any]:
    """Write the input's rows with their scores as Parquet parts; returns the manifest. See `unroll.bulk`."""
    output = ScoringFolder(Path(request.output_path))
    with output.lock():
        registry = ModelRegistry(mlflow.get_tracking_uri())
        version = choose_version(registry, output, request)
        with registry.model_folder(version) as folder:
            saved = load_model(folder, resolve_device("auto"))
            reference = read_reference(folder)
        _require_noted_weights(version, saved)
        logger.info("reading %s for its digest and size", request.input_path)
        check = DriftCheck(reference, request.drift, _teller(request, version, saved.config))
        if request.is_text:
            text = RunningText.open(Path(request.input_path))
            job = _job(request, text.sha256, "", PART_PASSAGES, version, saved)
            return score_passages(text, saved, job, output, check, request.overwrite)
        predictor = SentimentPredictor(saved)
        texts = TextTable.open(Path(request.input_path), request.text_column)
        job = _job(request, texts.sha256, request.text_column, PART_ROWS, version, saved)
        return score_table(texts, predictor, job, output, check, request.overwrite)


@task(name="report", task_run_name="report", persist_result=False, cache_policy=NO_CACHE)
def report_scores(manifest: dict[str, Any]) -> None:
    """Leave what was scored, by which version, and whether it has drifted, as the flow run's report."""
    job, drift = manifest["job"], manifest["drift"]
    rows = "texts" if "labels" in manifest else "passages"
    lines = [
        f"# {manifest['input']}: {manifest['rows']:,} {rows}, drift: {drift['verdict']}",
        "",
        f"Scored by {job['model_name']} version {job['model_version']}, weights {job['weights_sha256'][:12]}; parts: "
        f"{len(manifest['parts']):,}.",
        "",
        f"Drift: {drift['reason']}.",
        "",
        f"| of all {rows} | |",
        "|---|---|",
        *(f"| {name} | {value:,} |" for name, value in manifest.get("labels", {}).items()),
        *(
            f"| {name.replace('_', ' ')} | {manifest[name]:,.6g} |"
            for name in ("missing_texts", "empty_texts", "characters", "unknown_characters", "bits_per_char")
            if name in manifest
        ),
    ]
    description = f"Scores of {manifest['input']}; drift: {drift['verdict']}"
    create_markdown_artifact("\n".join(lines) + "\n", key="score-report", description=description)


def choose_version(registry: ModelRegistry, output: ScoringFolder, request: ScoringRequest) -> Version:
    """The version asked for; without one the champion, pinned by the first start of a job until it is done."""
    name = registered_name(make_config(request.project, {}))
    version = registry.resolve(name, request.model)
    begun = None if output.is_done or request.overwrite else output.job()
    if begun is not None and request.model in (None, CHAMPION) and begun.model_version != version.number:
        logger.warning(
            "the champion of %s is version %s by now; going on with version %s, by which %s was begun (--overwrite "
            "scores all anew)",
            *(version.name, version.number, begun.model_version, output.folder),
        )
        return registry.version(begun.model_name, begun.model_version)
    logger.info("scoring by %s version %s, whatever becomes champion meanwhile", version.name, version.number)
    return version


def _require_noted_weights(version: Version, saved: SavedModel) -> None:
    """Raise RegistryError for weights that are not those that the version was registered with."""
    noted, found = version.tags.get(WEIGHTS_TAG), _weights(saved)
    if noted is not None and noted != found:
        raise RegistryError(
            f"{version.name} version {version.number} was registered with the weights {noted[:12]}, and the registry "
            f"gives back {found[:12]}: its files were changed. Score by another version with --model."
        )


def _job(
    request: ScoringRequest, input_sha256: str, text_column: str, part_rows: int, version: Version, saved: SavedModel
) -> ScoringJob:
    return ScoringJob(
        input_sha256=input_sha256,
        text_column=text_column,
        part_rows=request.part_rows or part_rows,
        precision=scoring_precision(request.precision, saved.model, saved.device),  # type: ignore[arg-type]
        model_name=version.name,
        model_version=version.number,
        weights_sha256=_weights(saved),
        vocabulary_sha256=saved.encoder.vocabulary.digest,
    )


def _weights(saved: SavedModel) -> str:
    return weights_sha256(dict(saved.model.state_dict()))


def _teller(request: ScoringRequest, version: Version, config: AnyConfig) -> Callable[[DriftReport], None]:
    def tell(drift: DriftReport) -> None:
        preset, settings = _recipe(version, config)
        reason = f"{Path(request.input_path).name} has drifted from what version {version.number} was validated on"
        # one event for one job's drift, also where a killed job tells it again
        event_id = uuid5(NAMESPACE_URL, f"{Path(request.output_path).absolute()} {version.uri} {drift.reason}")
        events.tell(events.DRIFT, config.project, preset, settings, f"{reason}: {drift.reason}", event_id)

    return tell


def _recipe(version: Version, config: AnyConfig) -> tuple[str, list[str]]:
    """The preset of the run that made a version, and the settings in which its config differs from the preset."""
    preset = attach_run(version.run_id).tag(PRESET_TAG) or "sample"
    try:
        base = load_config(config.project, preset)
    except ConfigError:  # a file of settings that lies elsewhere
        preset, base = "sample", load_config(config.project)
    return preset, setting_differences(base, config)
