"""``make gpu``: both projects on whatever card is there, from training to answers, without Prefect and MLflow.

In each precision a model is trained, written, loaded, evaluated and asked, and a training that is killed goes on
(`benchmarks.gpu_journey`). Prints a row for each; ends with 1 if anything failed. Needs only what `unroll` needs for
that (pyproject.toml, down to evaluation), so it runs on a bare machine: ``PYTHONPATH=src:. python -m benchmarks.gpu``.
Without a card it says so and goes the same way on the CPU.
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

from benchmarks.gpu_journey import Journey
from unroll.config import AnyConfig
from unroll.presets import make_config
from unroll.training.device import resolve_device

SETTINGS: dict[str, dict[str, Any]] = {
    "sentiment": {
        "data": {"sample_size": 4000},
        "encoding": {"tokenizer": "book"},
        "model": {"embedding_dim": 128, "hidden_size": 256, "bidirectional": True},
        "training": {"epochs": 2, "batch_size": 128, "learning_rate": 2e-3, "log_every": 1},
        "evaluation": {"rival": False},
    },
    "language_model": {
        "data": {"sample_size": 400_000},
        "model": {"embedding_dim": 128, "hidden_size": 512},
        "training": {"epochs": 2, "batch_size": 128, "window": 100, "learning_rate": 4e-3, "log_every": 1},
        "evaluation": {"rival": False, "sample_length": 80},
    },
}


def main() -> int:
    """Take each project through in each precision that the device runs fast; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, cpu")
    parser.add_argument("--out", type=Path, help="write the rows as JSON lines too")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, small layers: does it run at all?")
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
                rows.append({"device": name, "torch": torch.__version__, **_row(config, Path(scratch))})
                print(_line(rows[-1]), flush=True)
    if arguments.out is not None:
        arguments.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return 1 if any("failed" in row for row in rows) else 0


def _config(project: str, settings: dict[str, Any], device: str, precision: str, quick: bool) -> AnyConfig:
    plain = json.loads(json.dumps(settings))
    plain["training"] |= {"device": device, "precision": precision}
    if quick:
        plain["data"]["sample_size"] //= 10
        plain["model"]["hidden_size"] = 128
        plain["training"] |= {"epochs": 1, "batch_size": 32}
        plain["evaluation"]["bootstrap_samples"] = 100
    return make_config(project, plain)


def _row(config: AnyConfig, scratch: Path) -> dict[str, Any]:
    try:
        return Journey(config, scratch).run()
    except Exception as error:
        logging.exception("%s in %s failed", config.project, config.training.precision)
        failed = f"{type(error).__name__}: {error}"
        return {"project": config.project, "precision": config.training.precision, "failed": failed}


def _line(row: dict[str, Any]) -> str:
    start = f"{row['project']:15} {row['precision']:9}"
    if "failed" in row:
        return f"{start} FAILED: {row['failed']}"
    scores = {**row["validation"], **{name: value for name, value in row.items() if name.startswith("test/")}}
    return (
        f"{start} {row['tokens_per_second']:>10,} tokens/s  "
        f"loss {row['first_loss']:.3f} to {row['last_loss']:.3f} in {row['steps']} steps, {row['seconds']:.1f} s; "
        f"validation {', '.join(f'{name} {value:.4f}' for name, value in scores.items())}; "
        f"killed after step {row['killed_after_step']}, resumed from {row['resumed_from_step']}: "
        f"losses off by {row['resumed_off_by']:.2g}; answers {row['answer']!r}"
    )


if __name__ == "__main__":
    sys.exit(main())
