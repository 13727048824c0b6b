"""The stages of both projects: what each one's key is made of, and what it writes.

    download -> validate -> encode -> train -> evaluate        (register needs a registry: tasks/register.py)

A stage is a key and a function that fills an empty folder. `unroll.store` runs the function when the key is new.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args

from unroll.config import AnyConfig, LanguageModelConfig, SentimentConfig, flatten
from unroll.data.sources import fetch_reviews, fetch_text, source_fingerprint
from unroll.files import write_json
from unroll.store import Artifact, StageKey, source_digests
from unroll.training.metrics import MetricLogger
from unroll.training.progress import OnProgress

StageName = Literal["download", "validate", "encode", "train", "evaluate", "register"]
STAGES: tuple[str, ...] = get_args(StageName)

CUTS = (
    "data.validation_fraction",
    "data.test_fraction",
    "data.max_validation_characters",
    "data.max_test_characters",
)
SPLIT_SETTINGS = (*CUTS, "data.text_column", "data.label_column")
UNREAD_BY_TRAINING = ("training.checkpoint_seconds", "training.log_every")
"""Settings that change neither the weights nor what is measured."""


def mirror_folder() -> Path | None:
    """The folder in UNROLL_MIRROR, tried before the network; None where it is not set."""
    name = os.environ.get("UNROLL_MIRROR")
    return Path(name) if name else None


def download_key(config: AnyConfig) -> StageKey:
    """Reads data.* but for how the corpus is cut; the outside is told by the files' digests or the corpus's name."""
    settings = _settings(config, "data.", without=(*CUTS, "data.test_source"))
    settings.pop("data.source")  # a file is known by its digest, wherever it lies
    if config.data.source == "sample":
        settings["seed"] = config.seed
    else:
        settings.pop("data.sample_size")
    inputs = source_fingerprint(config.data, mirror_folder())
    return StageKey(config.project, "download", inputs, settings, source_digests(["unroll.data.sources"]))


def download(config: AnyConfig, folder: Path) -> None:
    """Fetch or make the corpus."""
    if isinstance(config, LanguageModelConfig):
        fetch_text(config.data, config.seed, folder, mirror_folder())
    else:
        fetch_reviews(config.data, config.seed, folder, mirror_folder())


def validate_key(config: AnyConfig, corpus: Artifact) -> StageKey:
    """Reads how the corpus is split."""
    settings = {**_settings(config, "data.", only=SPLIT_SETTINGS), "seed": config.seed}
    code = source_digests(["unroll.data.validation"])
    return StageKey(config.project, "validate", {"corpus": corpus.digest}, settings, code)


def validate(config: AnyConfig, corpus: Artifact, folder: Path) -> None:
    """Write the data report; whether its errors end the flow is for the flow to decide."""
    from unroll.data.corpora import ReviewCorpus, TextCorpus
    from unroll.data.splits import split_reviews
    from unroll.data.validation import validate_reviews, validate_text

    if isinstance(config, LanguageModelConfig):
        report = validate_text(TextCorpus.open(corpus.folder), config.data)
    else:
        reviews = ReviewCorpus.open(corpus.folder)
        report = validate_reviews(reviews, split_reviews(reviews, config.data, config.seed), config.data)
    write_json(folder / "data_report.json", report.to_dict())
    (folder / "data_report.md").write_text(report.to_markdown(), encoding="utf-8")


def encode_key(config: AnyConfig, corpus: Artifact) -> StageKey:
    """Reads how the corpus is split, and encoding.*."""
    settings = {
        **_settings(config, "data.", only=SPLIT_SETTINGS),
        **_settings(config, "encoding."),
        "seed": config.seed,
    }
    code = source_digests(["unroll.data.corpus_encoding"])
    return StageKey(config.project, "encode", {"corpus": corpus.digest}, settings, code)


def encode(config: AnyConfig, corpus: Artifact, folder: Path) -> None:
    """Split, learn the vocabulary from the training split, and write every split as ids."""
    from unroll.data.corpus_encoding import encode_corpus

    encode_corpus(config, corpus.folder, folder)


def train_key(config: AnyConfig, encoded: Artifact) -> StageKey:
    """Reads model.*, training.* and, for a language model's passages, evaluation.sample_prompt and sample_length."""
    settings = {
        **_settings(config, "model."),
        **_settings(config, "training.", without=UNREAD_BY_TRAINING),
        "seed": config.seed,
    }
    if isinstance(config, LanguageModelConfig):
        settings |= _settings(config, "evaluation.", only=("evaluation.sample_prompt", "evaluation.sample_length"))
    code = source_digests(["unroll.training.fit"])
    return StageKey(config.project, "train", {"encoded": encoded.digest}, settings, code)


def train(
    config: AnyConfig,
    encoded: Artifact,
    work_folder: Path,
    folder: Path,
    metric_logger: MetricLogger,
    on_progress: OnProgress | None = None,
) -> None:
    """Train, or go on from the checkpoint in ``work_folder``; see `unroll.training.fit.train`."""
    from unroll.training.fit import train as fit

    fit(config, encoded.folder, work_folder, folder, metric_logger, on_progress)


def evaluate_key(config: AnyConfig, corpus: Artifact, encoded: Artifact, model: Artifact) -> StageKey:
    """Reads evaluation.* and how the corpus is split."""
    settings = {
        **_settings(config, "evaluation."),
        **_settings(config, "data.", only=SPLIT_SETTINGS),
        "seed": config.seed,
    }
    module = "running_text" if isinstance(config, LanguageModelConfig) else "sentiment"
    inputs = {"corpus": corpus.digest, "encoded": encoded.digest, "model": model.digest}
    return StageKey(config.project, "evaluate", inputs, settings, source_digests([f"unroll.evaluation.{module}"]))


def evaluate(config: AnyConfig, corpus: Artifact, encoded: Artifact, model: Artifact, folder: Path) -> None:
    """Score the model and its rival on the test split."""
    if isinstance(config, SentimentConfig):
        from unroll.evaluation.sentiment import evaluate_sentiment

        evaluate_sentiment(config, corpus.folder, encoded.folder, model.folder, folder)
    else:
        from unroll.evaluation.running_text import evaluate_text

        evaluate_text(config, corpus.folder, encoded.folder, model.folder, folder)


def _settings(
    config: AnyConfig, prefix: str, only: tuple[str, ...] | None = None, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Flat settings below a section. A setting that another project lacks is simply not there."""
    flat = flatten(config.model_dump(mode="json"))
    names = [name for name in flat if name.startswith(prefix) and name not in without]
    return {name: flat[name] for name in names if only is None or name in only}
