"""Scoring a file in bulk as a task: which version, and with it the parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.registry import CHAMPION, WEIGHTS_TAG, ModelRegistry, Version
from unroll.bulk import PART_ROWS, score_table
from unroll.bulk_input import TextTable
from unroll.bulk_output import ScoringFolder, ScoringJob
from unroll.config import registered_name
from unroll.errors import RegistryError
from unroll.precision import scoring_precision
from unroll.prediction import SentimentPredictor
from unroll.presets import make_config
from unroll.training.checkpoint import weights_sha256
from unroll.training.device import resolve_device

logger = logging.getLogger("unroll.score")


@dataclass(frozen=True)
class ScoringRequest:
    """What a user asks for."""

    input_path: str
    output_path: str
    text_column: str = "text"
    model: str | None = None
    """As `tasks.registry.ModelRegistry.resolve` takes it."""
    precision: str = "float32"
    part_rows: int = PART_ROWS
    overwrite: bool = False
    """Replace what another job left in the output."""


@task(name="score", persist_result=False, cache_policy=NO_CACHE)
def score(request: ScoringRequest) -> dict[str, Any]:
    """Write the input's rows with their scores as Parquet parts; returns the manifest. See `unroll.bulk`."""
    output = ScoringFolder(Path(request.output_path))
    with output.lock():
        registry = ModelRegistry(mlflow.get_tracking_uri())
        version = choose_version(registry, output, request)
        predictor = _load(registry, version)
        logger.info("reading %s for its digest, rows and types", request.input_path)
        texts = TextTable.open(Path(request.input_path), request.text_column)
        job = _job(request, texts, version, predictor)
        return score_table(texts, predictor, job, output, request.overwrite)


def choose_version(registry: ModelRegistry, output: ScoringFolder, request: ScoringRequest) -> Version:
    """The version asked for; without one the champion, pinned by the first start of a job until it is done."""
    name = registered_name(make_config("sentiment", {}))
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


def _load(registry: ModelRegistry, version: Version) -> SentimentPredictor:
    """Raises PredictionError for a language model, RegistryError for weights that are not the version's."""
    with registry.model_folder(version) as folder:
        predictor = SentimentPredictor.load(folder, resolve_device("auto"))
    noted, found = version.tags.get(WEIGHTS_TAG), _weights(predictor)
    if noted is not None and noted != found:
        raise RegistryError(
            f"{version.name} version {version.number} was registered with the weights {noted[:12]}, and the registry "
            f"gives back {found[:12]}: its files were changed. Score by another version with --model."
        )
    return predictor


def _job(request: ScoringRequest, texts: TextTable, version: Version, predictor: SentimentPredictor) -> ScoringJob:
    saved = predictor.saved
    return ScoringJob(
        input_sha256=texts.sha256,
        text_column=request.text_column,
        part_rows=request.part_rows,
        precision=scoring_precision(request.precision, saved.model, saved.device),  # type: ignore[arg-type]
        model_name=version.name,
        model_version=version.number,
        weights_sha256=_weights(predictor),
        vocabulary_sha256=saved.encoder.vocabulary.digest,
    )


def _weights(predictor: SentimentPredictor) -> str:
    return weights_sha256(dict(predictor.saved.model.state_dict()))
