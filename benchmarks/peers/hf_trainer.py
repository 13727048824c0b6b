"""Hugging Face's Trainer over a recurrent classifier, where `transformers` is there; ``make bench`` leaves it out.

Installed beside the environment, which it leaves as it is, and found through PYTHONPATH:

    pip install --no-deps --target FOLDER transformers accelerate
    PYTHONPATH=FOLDER make bench
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from benchmarks.chapter.sentiment import PackedClassifier
from benchmarks.measure import WARM_UP, Bout, Contestant, Lap, Stopwatch
from unroll.config import SentimentConfig
from unroll.data.encoded import EncodedSplit

NAME = "Hugging Face Trainer"


def is_there() -> bool:
    """Whether transformers and accelerate are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("transformers", "accelerate"))


class _TrainerModel(nn.Module):
    """The chapter's classifier as the Trainer calls it: keywords in, a mapping with the loss out."""

    def __init__(self, config: SentimentConfig, vocab_size: int) -> None:
        super().__init__()
        sizes = config.model
        self.classifier = PackedClassifier(
            vocab_size, sizes.embedding_dim, sizes.hidden_size, sizes.head_size or sizes.hidden_size
        )

    def forward(self, input_ids: Tensor, lengths: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.classifier.logits(input_ids, lengths)
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def make_contestant(config: SentimentConfig, split: EncodedSplit, vocab_size: int, steps: int) -> Contestant:
    """The Trainer at the shapes of the config, over a split that is encoded already; ``steps`` a bout."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    transformers = importlib.import_module("transformers")
    transformers.utils.logging.set_verbosity_error()
    assert split.labels is not None
    items = [
        {"input_ids": split.item(index).tolist(), "labels": float(label)} for index, label in enumerate(split.labels)
    ]
    model = _TrainerModel(config, vocab_size)

    def train(num_steps: int) -> Lap:
        clock = _clock(transformers)
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                output_dir=folder,
                max_steps=num_steps,
                per_device_train_batch_size=config.training.batch_size,
                learning_rate=config.training.learning_rate,
                lr_scheduler_type="constant",
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                **_by_length(transformers),
            )
            transformers.Trainer(
                model=model, args=arguments, train_dataset=items, data_collator=_collate, callbacks=[clock]
            ).train()
        lap: Lap = clock.lap
        return lap

    def bout(number: int) -> Bout:
        num_steps = 1 if number == WARM_UP else steps
        return Bout(num_steps * config.training.batch_size, train(num_steps))

    what = f"transformers {transformers.__version__}: encoded once, grouped by length, packed, AdamW, float32"
    return Contestant(NAME, what, bout)


def _by_length(transformers: Any) -> dict[str, Any]:
    """The option under which texts of like length go together; version 5 gave it another name."""
    if "group_by_length" in transformers.TrainingArguments.__dataclass_fields__:
        return {"group_by_length": True}
    return {"train_sampling_strategy": "group_by_length"}


def _clock(transformers: Any) -> Any:
    """A callback that keeps the lap of the training steps, without what the Trainer does to get ready."""

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.watch = Stopwatch()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.lap = self.watch.lap()

    return Clock()


def _collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    rows = [torch.tensor(item["input_ids"]) for item in items]
    return {
        "input_ids": pad_sequence(rows, batch_first=True),
        "lengths": torch.tensor([len(row) for row in rows]),
        "labels": torch.tensor([item["labels"] for item in items]),
    }
