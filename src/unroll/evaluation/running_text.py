"""The evaluate stage of the language-model project: the model and its rival on the test part, read once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unroll.config import LanguageModelConfig
from unroll.data.corpora import TextCorpus
from unroll.data.encoded import EncodedCorpus
from unroll.data.splits import cut_text
from unroll.evaluation.baselines import ngram_rival
from unroll.evaluation.behaviour import save_behaviour
from unroll.evaluation.behaviour_text import Score, test_text
from unroll.evaluation.language_modeling import evaluate_language_model, loss_per_position
from unroll.evaluation.report import EvaluationReport, Rival, named
from unroll.generation import SamplingSettings, TextGenerator
from unroll.models.language_model import CharLanguageModel
from unroll.models.saved import SavedModel, load_model
from unroll.scoring import WARM_UP, score_continuations, score_text
from unroll.training.device import resolve_device
from unroll.training.metrics import History

logger = logging.getLogger(__name__)

RIVAL_ORDER = 6
RIVAL_NAME = f"interpolated Kneser-Ney, {RIVAL_ORDER} characters of context"
ADAPTIVE = "adaptive_bits_per_char"
"""The same rival learning from the test text as it goes, which the frozen network does not: a figure of its own."""
POSITIONS = 200
"""Characters from a cold start over which the loss per position is drawn."""


@dataclass(frozen=True)
class TestText:
    """The frozen text that every model is judged on."""

    __test__ = False  # pytest would take it for a test

    text: str
    context: str
    """What stands just before it, for warming up; empty where the test text is a file of its own."""
    bits: NDArray[np.float32] | None
    """Exact code length of each character under the generator that made it."""
    digest: str


def evaluate_text(
    config: LanguageModelConfig, corpus_folder: Path, encoded_folder: Path, model_folder: Path, folder: Path
) -> None:
    """Score a model folder on the test part; write its findings into ``folder``.

    These are evaluation.json, behaviour.json, predictions.parquet and plots/.

    Raises StoreError or CheckpointError where an artifact is not whole.
    """
    test = read_test_text(TextCorpus.open(corpus_folder), config)
    saved = load_model(model_folder, resolve_device(config.training.device))
    logger.info("scoring %s test characters", f"{len(test.text):,}")
    nats = score_test_text(saved, test)
    evaluation = config.evaluation
    options = (evaluation.confidence, evaluation.bootstrap_samples, config.seed, test.bits)
    ours = evaluate_language_model(nats, *options)

    columns = {"nats": nats}
    rival = None
    if evaluation.rival:
        logger.info("training the rival: %s", RIVAL_NAME)
        encoded = EncodedCorpus.open(encoded_folder)
        train, test_ids = encoded.split("train").tokens, encoded.split("test").tokens
        arguments = (train, test_ids, encoded.vocab_size, RIVAL_ORDER)
        columns["rival_nats"] = ngram_rival(*arguments, adaptive=False)
        rival_metrics = dict(evaluate_language_model(columns["rival_nats"], *options).metrics)
        adaptive = evaluate_language_model(ngram_rival(*arguments, adaptive=True), *options)
        rival_metrics[ADAPTIVE] = adaptive.metrics["bits_per_char"]
        rival = Rival(RIVAL_NAME, named("test", rival_metrics))
    pd.DataFrame(columns).to_parquet(folder / "predictions.parquet", index=False)

    report = EvaluationReport(
        project=config.project,
        metrics=named("test", ours.metrics),
        rival=rival,
        test_digest=test.digest,
        num_items=len(nats),
        confidence=evaluation.confidence,
        details={"passages": _passages(config, saved)},
    )
    report.save(folder)
    made = config.data.source == "sample"
    save_behaviour(test_text(_score_with(saved), test.text, made, config.seed, evaluation.confidence), folder)
    _draw(config, saved, test, report, History(model_folder / "history.jsonl"), folder / "plots")


def read_test_text(corpus: TextCorpus, config: LanguageModelConfig) -> TestText:
    """The test part, what stands before it, and its digest."""
    test = cut_text(corpus, config.data)["test"]
    part, context, bits = test[:], "", None
    if not corpus.has_test:
        start = test.positions.start
        context = corpus.text[max(start - WARM_UP - 1, 0) : start]
        bits = None if corpus.bits is None else np.asarray(corpus.bits[start:])
    return TestText(part, context, bits, hashlib.sha256(part.encode()).hexdigest())


def score_test_text(saved: SavedModel, test: TestText) -> NDArray[np.float64]:
    """Nats of each test character, (N,), under a model with whatever vocabulary it has."""
    assert isinstance(saved.model, CharLanguageModel)
    encode = saved.encoder.encode
    # an encoder gives an empty text one <unk>; no context is none
    token_ids = np.asarray(encode(test.text), dtype=np.int64)
    context = np.asarray(encode(test.context) if test.context else [], dtype=np.int64)
    return score_text(saved.model, token_ids, context, saved.device, "float32", len(saved.encoder.vocabulary))


def _score_with(saved: SavedModel) -> Score:
    assert isinstance(saved.model, CharLanguageModel)
    model, encode, device = saved.model, saved.encoder.encode, saved.device

    def score(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        encoded = [(np.asarray(encode(past)), np.asarray(encode(future))) for past, future in pairs]
        return score_continuations(model, encoded, device)

    return score


def _passages(config: LanguageModelConfig, saved: SavedModel) -> list[dict[str, Any]]:
    """What the model writes after the prompt, at each of the temperatures that the config names."""
    assert isinstance(saved.model, CharLanguageModel)
    evaluation = config.evaluation
    generator = TextGenerator(saved.model, saved.encoder, saved.device)
    passages = []
    for temperature in evaluation.sample_temperatures:
        settings = SamplingSettings(length=evaluation.sample_length, temperature=temperature, seed=config.seed)
        text = generator.generate([evaluation.sample_prompt], settings)[0]
        passages.append({"temperature": temperature, "text": text})
    return passages


def _cold_start_losses(saved: SavedModel, test: TestText) -> NDArray[np.float64]:
    """(W, POSITIONS): the cost of each character after a cut at which the state is forgotten."""
    assert isinstance(saved.model, CharLanguageModel)
    starts = range(0, max(len(test.text) - POSITIONS, 1), max(POSITIONS, len(test.text) // 200))
    empty = np.empty(0, dtype=np.int64)
    vocab_size = len(saved.encoder.vocabulary)
    pieces = [np.asarray(saved.encoder.encode(test.text[start : start + POSITIONS])) for start in starts]
    whole = [piece for piece in pieces if len(piece) == len(pieces[0])]
    return np.stack([score_text(saved.model, ids, empty, saved.device, "float32", vocab_size) for ids in whole])


def _draw(
    config: LanguageModelConfig,
    saved: SavedModel,
    test: TestText,
    report: EvaluationReport,
    history: History,
    folder: Path,
) -> None:
    from unroll.evaluation import plots  # matplotlib takes its time, and a kept evaluation draws nothing

    folder.mkdir()
    points = history.read()
    threshold = config.training.max_gradient_norm if config.training.clip == "norm" else None
    plots.save(plots.learning_curves(points), folder / "learning_curves.png")
    plots.save(plots.gradient_norms(points, threshold), folder / "gradient_norms.png")
    losses = loss_per_position(_cold_start_losses(saved, test), report.confidence)
    plots.save(plots.loss_per_position(losses.mean, losses.low, losses.high), folder / "loss_per_position.png")
    if report.rival is not None:
        floor = report.metrics.get("test/floor_bits_per_char")
        figure = plots.rival_bars(
            "bits per character",
            report.metrics["test/bits_per_char"],
            report.rival.metrics["test/bits_per_char"],
            None if floor is None else floor.value,
        )
        plots.save(figure, folder / "rival.png")
