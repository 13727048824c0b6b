"""The train stage: from an encoded corpus to a model folder that anyone can load.

weights.safetensors     the best evaluation's tensors, or the last step's (training.keep)
config.json             every setting, and the classes
encoder.json …          the vocabulary and tokeniser, so that the model reads text
reference.json          what the model saw of the validation split, for drift to be measured against
training.json           what it took: seconds, steps, rate, device, clipping, restarts
history.jsonl           the curves;  samples.jsonl  generated passages by evaluation
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from statistics import median
from typing import Any

import torch

from unroll.config import AnyConfig, LanguageModelConfig
from unroll.data.encoded import EncodedCorpus
from unroll.data.encoders import copy_encoder
from unroll.files import write_json
from unroll.reference import write_reference
from unroll.training.checkpoint import WEIGHTS_FILE, load_weights, weights_sha256
from unroll.training.language_model import LanguageModelProblem
from unroll.training.memory import keep_freed_memory
from unroll.training.metrics import MetricLogger
from unroll.training.problem import Problem
from unroll.training.progress import OnProgress
from unroll.training.run_state import Progress
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem
from unroll.training.trainer import Trainer

logger = logging.getLogger(__name__)


def train(
    config: AnyConfig,
    encoded_folder: Path,
    work_folder: Path,
    folder: Path,
    metric_logger: MetricLogger,
    on_progress: OnProgress | None = None,
) -> None:
    """Train on an encoded corpus and write the model into ``folder``, which is empty.

    A run found in ``work_folder`` goes on from its last checkpoint. Raises InterruptedTraining when asked to stop,
    DivergedError, ConfigError for a device that is not there.
    """
    keep_freed_memory()
    corpus = EncodedCorpus.open(encoded_folder)
    seed_torch(config.seed)
    problem = make_problem(config, corpus)
    trainer = Trainer(problem, config.training, work_folder, metric_logger, on_progress)
    _announce(config, problem, trainer)
    progress = trainer.fit()
    _write_model(config, corpus, encoded_folder, trainer, progress, folder)


def make_problem(config: AnyConfig, corpus: EncodedCorpus) -> Problem:
    """The project's model, batches and loss."""
    if isinstance(config, LanguageModelConfig):
        return LanguageModelProblem(config, corpus)
    return SentimentProblem(config, corpus)


def _announce(config: AnyConfig, problem: Problem, trainer: Trainer) -> None:
    where = torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else "CPU"
    threads = f", {torch.get_num_threads()} threads" if trainer.device.type == "cpu" else ""
    parameters = sum(parameter.numel() for parameter in problem.model.parameters())
    logger.info(
        "training %s, %s parameters, on %s%s, %s: %s batches an epoch, %d epochs at most",
        f"{config.model.cell} {config.model.hidden_size}x{config.model.num_layers}",
        f"{parameters:,}",
        where,
        threads,
        trainer.precision,
        f"{problem.steps_per_epoch:,}",
        config.training.epochs,
    )


def _write_model(
    config: AnyConfig,
    corpus: EncodedCorpus,
    encoded_folder: Path,
    trainer: Trainer,
    progress: Progress,
    folder: Path,
) -> None:
    kept = trainer.kept_checkpoint()
    load_weights(trainer.model, kept / WEIGHTS_FILE)
    shutil.copyfile(kept / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    copy_encoder(encoded_folder, folder)
    write_json(folder / "config.json", {**config.model_dump(mode="json"), "class_names": list(corpus.class_names)})
    write_reference(trainer.model, corpus, trainer.device, folder)
    for curve in (trainer.history, trainer.samples):
        if curve.path.exists():
            shutil.copyfile(curve.path, folder / curve.path.name)
    write_json(folder / "training.json", _summary(trainer, progress))


def _summary(trainer: Trainer, progress: Progress) -> dict[str, Any]:
    norms = [point["train/gradient_norm"] for point in trainer.history.read() if "train/gradient_norm" in point]
    on_gpu = trainer.device.type == "cuda"
    return {
        "seconds": progress.seconds,
        "steps": progress.step,
        "best_step": progress.best_step,
        "epochs": progress.epoch + 1,
        "tokens_per_second": progress.tokens / progress.seconds if progress.seconds else 0.0,
        "device": torch.cuda.get_device_name(trainer.device) if on_gpu else f"cpu ({os.cpu_count()} cores)",
        "threads": torch.get_num_threads(),
        "precision": trainer.precision,
        "gradient_norm_p50": median(norms) if norms else None,
        "clipped_fraction": progress.clipped_steps / progress.step if progress.step else 0.0,
        "skipped_steps": progress.skipped_steps,
        "rollbacks": progress.rollbacks,
        "resumed_from_step": trainer.resumed_from_step,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "weights_sha256": weights_sha256(dict(trainer.model.state_dict())),
        "kept": trainer.config.keep,
        "last_validation": {trainer.problem.score.name: progress.last_value},
        "best_validation": {trainer.problem.score.name: progress.best_value},
    }
