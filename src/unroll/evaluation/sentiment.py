"""The evaluate stage of the sentiment project: the model and its rival on the test split, read once."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from unroll.config import SentimentConfig
from unroll.data.corpora import ReviewCorpus
from unroll.data.encoded import EncodedCorpus
from unroll.data.sample_reviews import CLASS_NAMES
from unroll.data.splits import ReviewSplits, split_reviews
from unroll.evaluation.baselines import tfidf_rival
from unroll.evaluation.behaviour import BehaviourResult, save_behaviour
from unroll.evaluation.behaviour_reviews import test_reviews
from unroll.evaluation.classification import ClassificationReport, evaluate_classification
from unroll.evaluation.report import EvaluationReport, Rival, named
from unroll.models.classifier import SentimentClassifier
from unroll.models.saved import SavedModel, load_model
from unroll.prediction import SentimentPredictor
from unroll.scoring import score_reviews
from unroll.training.device import resolve_device
from unroll.training.metrics import History

logger = logging.getLogger(__name__)

RIVAL_NAME = "TF-IDF 1-2-grams + logistic regression"


@dataclass(frozen=True)
class TestItems:
    """The frozen items that every model is judged on."""

    __test__ = False  # pytest would take it for a test

    texts: list[str]
    labels: NDArray[np.int64]
    digest: str


def evaluate_sentiment(
    config: SentimentConfig, corpus_folder: Path, encoded_folder: Path, model_folder: Path, folder: Path
) -> None:
    """Score a model folder on the test split; write its findings into ``folder``.

    These are evaluation.json, behaviour.json, predictions.parquet and plots/.

    Raises StoreError or CheckpointError where an artifact is not whole.
    """
    corpus, encoded = ReviewCorpus.open(corpus_folder), EncodedCorpus.open(encoded_folder)
    device = resolve_device(config.training.device)
    saved = load_model(model_folder, device)
    assert isinstance(saved.model, SentimentClassifier)
    split = encoded.split("test")
    assert split.labels is not None
    assert split.rows is not None
    logger.info("scoring %s test reviews", f"{len(split):,}")
    probs = score_reviews(saved.model, split, device, "float32")
    ours = _report(config, probs, split.labels, saved.class_names)

    splits = split_reviews(corpus, config.data, config.seed)
    items = read_test_items(corpus, splits)
    rival, rival_probs = _score_rival(config, corpus, splits, items) if config.evaluation.rival else (None, None)

    predictions = pd.DataFrame({"row": split.rows, "label": split.labels, "prediction": probs.argmax(axis=1)})
    for index, name in enumerate(saved.class_names):
        predictions[f"probability_{name}"] = probs[:, index]
        if rival_probs is not None:
            predictions[f"rival_probability_{name}"] = rival_probs[:, index]
    predictions.to_parquet(folder / "predictions.parquet", index=False)

    report = EvaluationReport(
        project=config.project,
        metrics=named("test", ours.metrics),
        rival=rival,
        test_digest=items.digest,
        num_items=len(split),
        confidence=config.evaluation.confidence,
        details={
            "class_names": list(saved.class_names),
            "confusion_matrix": ours.confusion_matrix,
            "classes": [asdict(score) for score in ours.classes],
            "absent": dict(ours.absent),
        },
    )
    report.save(folder)
    save_behaviour(_test_behaviour(config, saved), folder)
    _draw(config, ours, report, probs, split.labels, History(model_folder / "history.jsonl"), folder / "plots")


def read_test_items(corpus: ReviewCorpus, splits: ReviewSplits) -> TestItems:
    """The test split's texts and labels, and their digest."""
    source, rows = splits.place("test")
    texts = [text for chunk in corpus.iter_texts(source, rows) for text in chunk]
    labels = corpus.labels(source)[rows]
    digest = hashlib.sha256("\n".join(corpus.class_names).encode())
    digest.update(labels.tobytes())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return TestItems(texts, labels, digest.hexdigest())


def _test_behaviour(config: SentimentConfig, saved: SavedModel) -> list[BehaviourResult]:
    """Nothing where the classes are others than those that the tests speak of."""
    if sorted(saved.class_names) != sorted(CLASS_NAMES):
        logger.info("no behaviour tests: they are of the classes %s", " and ".join(CLASS_NAMES))
        return []
    predictor = SentimentPredictor(saved)
    columns = [saved.class_names.index(name) for name in CLASS_NAMES]
    made = config.data.source == "sample"
    return test_reviews(
        lambda texts: predictor.predict(texts)[:, columns], made, config.seed, config.evaluation.confidence
    )


def _report(
    config: SentimentConfig, probs: NDArray[np.float64], labels: NDArray[np.int64], class_names: tuple[str, ...]
) -> ClassificationReport:
    evaluation = config.evaluation
    return evaluate_classification(
        probs, labels, class_names, evaluation.confidence, evaluation.bootstrap_samples, config.seed
    )


def _score_rival(
    config: SentimentConfig, corpus: ReviewCorpus, splits: ReviewSplits, items: TestItems
) -> tuple[Rival, NDArray[np.float64]]:
    logger.info("training the rival: %s", RIVAL_NAME)
    source, rows = splits.place("train")
    texts = [text for chunk in corpus.iter_texts(source, rows) for text in chunk]
    probs = tfidf_rival(texts, corpus.labels(source)[rows], items.texts, len(corpus.class_names), config.seed)
    report = _report(config, probs, items.labels, corpus.class_names)
    return Rival(RIVAL_NAME, named("test", report.metrics)), probs


def _draw(
    config: SentimentConfig,
    ours: ClassificationReport,
    report: EvaluationReport,
    probs: NDArray[np.float64],
    labels: NDArray[np.int64],
    history: History,
    folder: Path,
) -> None:
    from unroll.evaluation import plots  # matplotlib takes its time, and a kept evaluation draws nothing

    folder.mkdir()
    points = history.read()
    threshold = config.training.max_gradient_norm if config.training.clip == "norm" else None
    class_names = tuple(score.name for score in ours.classes)
    plots.save(plots.learning_curves(points), folder / "learning_curves.png")
    plots.save(plots.gradient_norms(points, threshold), folder / "gradient_norms.png")
    plots.save(plots.confusion_matrix(ours.confusion_matrix, class_names), folder / "confusion_matrix.png")
    plots.save(plots.calibration(ours.calibration), folder / "calibration.png")
    if probs.shape[1] == 2 and not ours.absent:
        plots.save(plots.roc_curve(labels, probs), folder / "roc_curve.png")
    if report.rival is not None:
        rival = report.rival.metrics["test/accuracy"]
        figure = plots.rival_bars("accuracy", report.metrics["test/accuracy"], rival)
        plots.save(figure, folder / "rival.png")
