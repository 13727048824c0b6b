"""The way of one model on a device, as a user takes it without Prefect and MLflow; whatever goes wrong raises.

    train ─> the model folder ─> load, evaluate, load once more and compare, classify or sample
    train ─> SIGKILL in mid-training ─> the same call again ─> must end as the run that nobody killed

On a CPU the killed run ends in the same bits. cuDNN's kernels add in no fixed order, so on a GPU the losses of each
step are compared.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.evaluation.reloading import check_reloaded
from unroll.evaluation.report import EvaluationReport
from unroll.generation import SamplingSettings, TextGenerator
from unroll.models.saved import check_contents
from unroll.precision import SCORING_PRECISIONS
from unroll.prediction import SentimentPredictor
from unroll.stages import download, encode, evaluate, train
from unroll.store import Artifact
from unroll.training.device import resolve_device
from unroll.training.metrics import History, SilentLogger

LOSS_TOLERANCE = 0.02
"""Nats by which a step's loss may differ on a GPU; three precisions ended within 0.002 of each other on an H100."""
SECONDS_TO_END = 300.0
TEXTS = ["A dull film, and far too long.", "", "I laughed, I cried: wonderful!"]
PROMPTS = ["The ", "She said"]
LENGTH = 60


class JourneyError(Exception):
    """Something came out otherwise than it must."""


class Journey:
    """One project's way in one precision. Corpora are made once for all that share the scratch folder."""

    def __init__(self, config: AnyConfig, scratch: Path) -> None:
        self._config = config
        self._corpus, self._encoded = scratch / "corpus", scratch / "encoded"
        self._folder = scratch / config.training.precision
        self._folder.mkdir()
        self._device = resolve_device(config.training.device)
        if not self._encoded.exists():
            self._corpus.mkdir()
            download(config, self._corpus)
            self._encoded.mkdir()
            encode(config, _artifact("download", self._corpus), self._encoded)

    def run(self) -> dict[str, Any]:
        """Go the whole way; what was seen. Raises JourneyError, or the error of the stage that failed."""
        model = self._train("undisturbed")
        record, losses = _record(model), _losses(model)
        seen = {
            "project": self._config.project,
            "precision": self._config.training.precision,
            "steps": record["steps"],
            "seconds": round(record["seconds"], 2),
            "tokens_per_second": round(record["tokens_per_second"]),
            "first_loss": round(losses[min(losses)], 4),
            "last_loss": round(float(np.mean([losses[step] for step in sorted(losses)[-5:]])), 4),
            "validation": record["best_validation"],
        }
        seen |= self._kill_and_resume(model)
        vocabulary = EncodedCorpus.open(self._encoded).encoder.vocabulary.digest
        check_contents(model, record["weights_sha256"], vocabulary)
        return seen | self._evaluate(model) | self._ask(model)

    def _train(self, name: str) -> Path:
        model = self._folder / f"model-{name}"
        model.mkdir(exist_ok=True)
        train(self._config, _artifact("encode", self._encoded), self._folder / f"work-{name}", model, SilentLogger())
        return model

    def _kill_and_resume(self, undisturbed: Path) -> dict[str, Any]:
        steps = _record(undisturbed)["steps"]
        step = random.randint(3, steps - 3)
        killed_by = self._train_in_a_process_killed_after(step)
        if killed_by != -signal.SIGKILL:
            raise JourneyError(f"A training to be killed after step {step} of {steps} ended with {killed_by} instead.")
        model = self._train("killed")
        resumed_from = _record(model)["resumed_from_step"]
        if not resumed_from:
            raise JourneyError(f"Killed after step {step}, training went on from step {resumed_from}, not from later.")
        return {
            "killed_after_step": step,
            "resumed_from_step": resumed_from,
            "resumed_off_by": self._compare(undisturbed, model),
        }

    def _train_in_a_process_killed_after(self, step: int) -> int | None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        (self._folder / "model-killed").mkdir()
        process = context.Process(target=_train_and_die, args=(self._config, self._encoded, self._folder, step))
        process.start()
        process.join(SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            raise JourneyError(f"A training to be killed after step {step} still ran after {SECONDS_TO_END:.0f} s.")
        return process.exitcode

    def _compare(self, undisturbed: Path, resumed: Path) -> float:
        """The largest difference of any step's loss. Raises JourneyError if it is larger than it may be."""
        expected, found = _losses(undisturbed), _losses(resumed)
        if found.keys() != expected.keys():
            raise JourneyError(f"Resumed, a run of {len(expected)} steps wrote the losses of {len(found)}.")
        off_by = max(abs(found[step] - expected[step]) for step in expected)
        same_bits = _record(resumed)["weights_sha256"] == _record(undisturbed)["weights_sha256"]
        if self._device.type == "cpu" and not (same_bits and off_by == 0):
            raise JourneyError(f"Resumed, the weights ended in other bits, the losses off by up to {off_by:.3g}.")
        if not off_by <= LOSS_TOLERANCE:
            raise JourneyError(f"Resumed, a loss is off by {off_by:.3g}; expected at most {LOSS_TOLERANCE:g}.")
        return off_by

    def _evaluate(self, model: Path) -> dict[str, Any]:
        folder = self._folder / "evaluation"
        folder.mkdir()
        corpus, encoded = _artifact("download", self._corpus), _artifact("encode", self._encoded)
        evaluate(self._config, corpus, encoded, _artifact("train", model), folder)
        check_reloaded(self._config, self._corpus, model, folder)
        metrics = EvaluationReport.load(folder).metrics
        name = "test/accuracy" if self._config.project == "sentiment" else "test/bits_per_char"
        return {name: round(metrics[name].value, 4)}

    def _ask(self, model: Path) -> dict[str, Any]:
        """What the model answers. Raises JourneyError for anything but probabilities, or texts of the length asked."""
        if self._config.project == "sentiment":
            predictor = SentimentPredictor.load(model, self._device)
            for precision in SCORING_PRECISIONS:
                probs = predictor.predict(TEXTS, precision)
                if not (np.isfinite(probs).all() and np.allclose(probs.sum(axis=1), 1, atol=1e-3)):
                    raise JourneyError(f"Expected probabilities of two classes in {precision}, got {probs.tolist()}.")
            return {"answer": [round(value, 3) for value in probs[0].tolist()]}
        generator = TextGenerator.load(model, self._device)
        made = generator.generate(PROMPTS, SamplingSettings(length=LENGTH))
        lengths = [len(text) - len(prompt) for text, prompt in zip(made, PROMPTS, strict=True)]
        if lengths != [LENGTH] * len(PROMPTS) or made != generator.generate(PROMPTS, SamplingSettings(length=LENGTH)):
            raise JourneyError(f"Expected {LENGTH} characters and the same ones twice, got {made}.")
        return {"answer": made[0]}


class _DyingLogger:
    """Kills its process at a random moment of the two steps after a certain one, such as in a checkpoint."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._logged_at = time.perf_counter()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        seconds, self._logged_at = time.perf_counter() - self._logged_at, time.perf_counter()
        if step == self._step and "train/loss" in metrics:
            timer = threading.Timer(random.uniform(0, 2 * seconds), _die)
            timer.daemon = True
            timer.start()
        elif step == self._step + 2:
            _die()  # these steps were quicker than the one before


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _train_and_die(config: AnyConfig, encoded: Path, folder: Path, step: int) -> None:
    training = config.training.model_copy(update={"checkpoint_seconds": 1e-9})
    dying = config.model_copy(update={"training": training})
    arguments = (_artifact("encode", encoded), folder / "work-killed", folder / "model-killed")
    train(dying, *arguments, _DyingLogger(step))


def _artifact(stage: str, folder: Path) -> Artifact:
    return Artifact(stage, "", str(folder), "")


def _record(model: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((model / "training.json").read_text(encoding="utf-8"))
    return record


def _losses(model: Path) -> dict[int, float]:
    """Nats by step; the settings log each."""
    points = History(model / "history.jsonl").read()
    losses = {int(point["step"]): point["train/loss"] for point in points if "train/loss" in point}
    if not losses or not np.isfinite(list(losses.values())).all():
        raise JourneyError(f"Expected a finite loss for each step, got {losses}.")
    return losses
