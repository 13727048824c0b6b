"""The model card of a version: made from the run's artifacts, kept with the run and on the version's page."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from tasks.provenance import code_tags
from tasks.stage import StageContext
from unroll.config import AnyConfig, SentimentConfig
from unroll.data.corpora import TextCorpus
from unroll.data.data_report import DataReport
from unroll.data.encoded import EncodedCorpus
from unroll.data.encoders import load_encoder
from unroll.data.vocabulary import Vocabulary
from unroll.evaluation.card import CardFacts, render_card, shorten_card
from unroll.evaluation.decisions import Decision
from unroll.evaluation.slices import Slice, slice_reviews, slice_text
from unroll.training.energy import ENERGY_FILE

if TYPE_CHECKING:
    from tasks.register import Candidate
    from tasks.registry import ModelRegistry, Version

logger = logging.getLogger("unroll.card")

LONGEST_DESCRIPTION = 4_900
"""Characters; MLflow's column holds 5,000."""
FOLDER = "model_card"


def card_name(name: str, number: str) -> str:
    """Where a version's card lies among the artifacts of its run."""
    return f"{FOLDER}/{name}-{number}.md"


def write_card(
    config: AnyConfig,
    context: StageContext,
    registry: ModelRegistry,
    version: Version,
    decision: Decision,
    candidate: Candidate,
) -> None:
    """Make the card; log it in the run, and set it as the version's description, as much as fits there."""
    card = render_card(_facts(config, version, decision, candidate))
    artifact = card_name(version.name, version.number)
    run = context.run()
    run.log_text(card, artifact)
    registry.describe(version, shorten_card(card, LONGEST_DESCRIPTION, f"artifact {artifact} of run {run.run_id}"))


def _facts(config: AnyConfig, version: Version, decision: Decision, candidate: Candidate) -> CardFacts:
    model_folder = candidate.model.artifact.folder
    report_file = candidate.data_report.artifact.folder / "data_report.json"
    energy_file = model_folder / ENERGY_FILE
    return CardFacts(
        name=version.name,
        version=version.number,
        run_id=version.run_id,
        config=config,
        data_digest=candidate.corpus.artifact.digest,
        data_report=DataReport.from_dict(json.loads(report_file.read_text(encoding="utf-8"))),
        splits=EncodedCorpus.open(candidate.encoded.artifact.folder).statistics,
        training=json.loads((model_folder / "training.json").read_text(encoding="utf-8")),
        energy=json.loads(energy_file.read_text(encoding="utf-8")) if energy_file.exists() else None,
        evaluation=candidate.report,
        slices=_slices(config, candidate),
        decision=decision,
        code=code_tags(),
    )


def _slices(config: AnyConfig, candidate: Candidate) -> tuple[Slice, ...]:
    evaluation = config.evaluation
    predictions = pd.read_parquet(candidate.evaluation.artifact.folder / "predictions.parquet")
    if isinstance(config, SentimentConfig):
        encoded = EncodedCorpus.open(candidate.encoded.artifact.folder)
        split = encoded.split("test")
        unknown = np.add.reduceat((split.tokens == Vocabulary.UNK_ID).astype(np.int64), split.offsets[:-1])
        return slice_reviews(
            split.lengths,
            unknown / split.lengths,
            predictions["label"].to_numpy(),
            (predictions["prediction"] == predictions["label"]).to_numpy(),
            encoded.class_names,
            evaluation.confidence,
        )
    from unroll.evaluation.running_text import read_test_text

    text = read_test_text(TextCorpus.open(candidate.corpus.artifact.folder), config).text
    token_ids = np.asarray(load_encoder(candidate.model.artifact.folder).encode(text))
    options = (evaluation.confidence, evaluation.bootstrap_samples, config.seed)
    return slice_text(text, predictions["nats"].to_numpy(), token_ids == Vocabulary.UNK_ID, *options)
