"""``make gpu``: a short training of both projects on whatever card is there, without Prefect and MLflow.

Prints a table of losses and rates. Needs only what `unroll` itself needs (torch, numpy, pandas, pyarrow, pydantic,
PyYAML, safetensors), so it runs on a bare machine: ``PYTHONPATH=src python -m benchmarks.gpu``. Without a card it says
so and trains on the CPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from unroll.config import AnyConfig
from unroll.presets import make_config
from unroll.stages import download, encode, train
from unroll.store import Artifact
from unroll.training.device import resolve_device
from unroll.training.metrics import History, SilentLogger

SETTINGS: dict[str, dict[str, Any]] = {
    "sentiment": {
        "data": {"sample_size": 4000},
        "encoding": {"tokenizer": "book"},
        "model": {"embedding_dim": 128, "hidden_size": 256, "bidirectional": True},
        "training": {"epochs": 2, "batch_size": 128, "learning_rate": 2e-3, "log_every": 5},
    },
    "language_model": {
        "data": {"sample_size": 400_000},
        "model": {"embedding_dim": 128, "hidden_size": 512},
        "training": {"epochs": 2, "batch_size": 128, "window": 100, "learning_rate": 4e-3, "log_every": 5},
        "evaluation": {"sample_length": 80},
    },
}


def main() -> int:
    """Train each project in each precision that the device runs fast; print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, cpu")
    parser.add_argument("--out", type=Path, help="write the rows as JSON lines too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data: does it run at all?")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    device = resolve_device(arguments.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "no GPU: CPU"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    rows = []
    for project, settings in SETTINGS.items():
        with tempfile.TemporaryDirectory() as scratch:
            for precision in ("float32", "bfloat16", "float16") if on_gpu else ("float32", "bfloat16"):
                config = _config(project, settings, arguments.device, precision, arguments.quick)
                rows.append({"device": name, "torch": torch.__version__, **_measure(config, Path(scratch))})
                _print_row(rows[-1])
    if arguments.out is not None:
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return 0


def _config(project: str, settings: dict[str, Any], device: str, precision: str, quick: bool) -> AnyConfig:
    plain = json.loads(json.dumps(settings))
    plain["training"] |= {"device": device, "precision": precision}
    if quick:
        plain["data"]["sample_size"] //= 10
        plain["training"] |= {"epochs": 1, "batch_size": 32}
    return make_config(project, plain)


def _measure(config: AnyConfig, scratch: Path) -> dict[str, Any]:
    corpus, encoded = scratch / "corpus", scratch / "encoded"
    if not encoded.exists():
        corpus.mkdir()
        download(config, corpus)
        encoded.mkdir()
        encode(config, _artifact("download", corpus), encoded)
    model, work = scratch / f"model-{config.training.precision}", scratch / f"work-{config.training.precision}"
    model.mkdir()
    train(config, _artifact("encode", encoded), work, model, SilentLogger())
    training = json.loads((model / "training.json").read_text(encoding="utf-8"))
    losses = [point["train/loss"] for point in History(model / "history.jsonl").read() if "train/loss" in point]
    return {
        "project": config.project,
        "precision": config.training.precision,
        "steps": training["steps"],
        "seconds": round(training["seconds"], 2),
        "tokens_per_second": round(training["tokens_per_second"]),
        "first_loss": round(losses[0], 4),
        "last_loss": round(losses[-1], 4),
        "validation": training["best_validation"],
    }


def _artifact(stage: str, folder: Path) -> Artifact:
    return Artifact(stage, "", str(folder), "")


def _print_row(row: dict[str, Any]) -> None:
    validation = ", ".join(f"{name} {value:.4f}" for name, value in row["validation"].items())
    print(
        f"{row['project']:15} {row['precision']:9} {row['tokens_per_second']:>10,} tokens/s  "
        f"loss {row['first_loss']:.3f} to {row['last_loss']:.3f} in {row['steps']} steps, {row['seconds']:.1f} s; "
        f"validation {validation}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
