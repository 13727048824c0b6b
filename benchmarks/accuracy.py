"""Test accuracy of both sides of the sentiment row, trained to the end on the same split.

Ours takes a minute or two. The chapter's way takes the better part of an hour, so a run trains it only where
--accuracy-epochs asks for it; otherwise the recorded runs of the preset `book` stand for it, which is the same model,
loss and batches at random (`make book`).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.chapter.sentiment import PackedClassifier, SentimentTraining, make_loader
from benchmarks.corpora import Corpus
from benchmarks.events import note
from benchmarks.measure import Stopwatch
from benchmarks.plan import Plan
from benchmarks.reviews import read_reviews
from unroll.config import SentimentConfig
from unroll.evaluation.intervals import bootstrap_counts, percentile_interval
from unroll.scoring import score_reviews
from unroll.training.metrics import SilentLogger
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem
from unroll.training.trainer import Trainer

RESAMPLES = 2_000
RECORDED = Path(__file__).parent / "results" / "book.json"


def compare_accuracy(plan: Plan, corpus: Corpus, config: SentimentConfig) -> dict[str, Any]:
    """The test accuracy of both, its 95 % interval, and the seconds it took; nothing on made reviews unless asked for.

    Whether the two are equal within the interval: ours reaches at least the low end of one of the chapter's.
    """
    epochs = plan.accuracy_epochs or (config.training.epochs if plan.real_corpora else 0)
    if not epochs:
        return {}
    note(f"training ours for {epochs} epochs, to see its accuracy")
    ours = _train_ours(plan, corpus, config, epochs)
    chapter = [_train_chapter(plan, corpus)] if plan.accuracy_epochs else recorded_runs()
    equal = ours["high"] >= min(run["low"] for run in chapter)
    scores = {"epochs": epochs, "unroll": ours, "chapter": chapter, "recorded": not plan.accuracy_epochs}
    return {"test_accuracy": {**scores, "equal": equal}}


def recorded_runs() -> list[dict[str, float]]:
    """Test accuracies of the preset `book` with their intervals, a run for each seed."""
    runs = [run for run in json.loads(RECORDED.read_text(encoding="utf-8")) if run["preset"] == "book"]
    return [{**run["test/accuracy"], "seconds": run["seconds"]} for run in runs if run["project"] == "sentiment"]


def _train_ours(plan: Plan, corpus: Corpus, config: SentimentConfig, epochs: int) -> dict[str, float]:
    encoded = corpus.open_encoded()
    training = config.training.model_copy(update={"epochs": epochs})
    seed_torch(plan.seed)
    problem = SentimentProblem(config, encoded)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(problem, training, Path(folder), SilentLogger()).fit()
    seconds = watch.lap().seconds
    test = encoded.split("test")
    probs = score_reviews(problem.model, test, torch.device("cpu"), "float32")
    return _scored(float(np.mean(probs.argmax(axis=1) == np.asarray(test.labels))), len(test), seconds)


def _train_chapter(plan: Plan, corpus: Corpus) -> dict[str, float]:
    encoded = corpus.open_encoded()
    ids_by_token = encoded.encoder.vocabulary.ids_by_token
    loaders = {split: make_loader(*read_reviews(corpus, split), ids_by_token) for split in ("train", "validation")}
    seed_torch(plan.seed)
    training = SentimentTraining(PackedClassifier(encoded.vocab_size))
    watch = Stopwatch()
    for epoch in range(plan.accuracy_epochs):
        _, loss = training.train_epoch(loaders["train"])
        accuracy = training.accuracy(loaders["validation"])
        note(f"the chapter's way, epoch {epoch + 1}: loss {loss:.3f}, validation accuracy {accuracy:.3f}")
    seconds = watch.lap().seconds
    texts, labels = read_reviews(corpus, "test")
    return _scored(training.accuracy(make_loader(texts, labels, ids_by_token)), len(labels), seconds)


def _scored(accuracy: float, num_texts: int, seconds: float) -> dict[str, float]:
    num_right = round(accuracy * num_texts)
    resampled = bootstrap_counts([num_right, num_texts - num_right], RESAMPLES, seed=1)[:, 0] / num_texts
    return {**percentile_interval(accuracy, resampled, 0.95).to_dict(), "seconds": seconds}
