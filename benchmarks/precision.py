"""Which precision pays, by measurement: ``python -m benchmarks.precision``, a few minutes; results/precision.md.

CPU seconds of one thread, the precisions in turn: a busy machine disturbs them little. Scoring (64 reviews, and one)
and training (forward and backward pass of a layer) at several shapes, in float32, in bfloat16 by autocast, and, for
scoring, with weights in int8 (`torch.ao.quantization.quantize_dynamic`, which PyTorch 2.13 still has and calls
deprecated). With --model FOLDER, the folder of a trained model: what each precision costs on its test split, read from
--encoded FOLDER. Both options are repeatable, in pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import numpy as np
import torch
from torch import nn

from unroll.data.encoded import EncodedCorpus
from unroll.models.classifier import SentimentClassifier
from unroll.models.saved import load_model
from unroll.prediction import EncodedTexts
from unroll.scoring import WARM_UP, score_reviews, score_text
from unroll.training.device import autocast

CPU = torch.device("cpu")
RESULTS = Path(__file__).parent / "results"
SCORING_SHAPES = ((20, 64), (100, 128), (128, 256), (256, 512))
"""Embedding and hidden sizes."""
SCORING_BATCHES, TOKENS = (1, 64), 235
"""Reviews of a batch, tokens of a review."""
TRAINING_SIZES, TRAINING_BATCHES, WINDOW = (64, 128, 256, 512, 1024), (16, 64, 128), 50
ROUNDS, LEAST_SECONDS = 3, 0.03
LABELS = {"float32": "float32", "bfloat16": "bfloat16", "int8": "int8 weights"}

Fields = dict[str, Any]


def main() -> int:
    """Measure, write precision.json and precision.md, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", default=[], help="a trained model's folder")
    parser.add_argument(
        "--encoded", type=Path, action="append", default=[], help="the corpus it was trained on, encoded"
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="most test reviews or characters of a cost")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of precision.json and precision.md")
    arguments = parser.parse_args()
    if len(arguments.model) != len(arguments.encoded):
        parser.error(f"got --model {len(arguments.model)} and --encoded {len(arguments.encoded)} times; expected pairs")
    torch.set_num_threads(1)
    results: Fields = {
        "torch": torch.__version__,
        "capabilities": sorted(name for name, there in torch.cpu.get_capabilities().items() if there is True),
        "scoring": [_tell(_scoring(*job)) for job in _scoring_jobs()],
        "training": [_tell(_training(size, batch)) for size in TRAINING_SIZES for batch in TRAINING_BATCHES],
        "costs": [
            _tell(cost(model, encoded, arguments.items))
            for model, encoded in zip(arguments.model, arguments.encoded, strict=True)
        ],
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "precision.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = "\n".join(to_markdown(results)) + "\n"
    (arguments.out / "precision.md").write_text(page, encoding="utf-8")
    print(page, end="")
    return 0


def _tell(row: Fields) -> Fields:
    print(", ".join(f"{name} {value}" for name, value in row.items()), file=sys.stderr, flush=True)
    return row


def _scoring_jobs() -> list[tuple[str, int, int, int]]:
    return [(cell, *shape, batch) for cell in ("lstm", "gru") for shape in SCORING_SHAPES for batch in SCORING_BATCHES]


def _scoring(cell: str, embedding_dim: int, hidden_size: int, batch: int) -> Fields:
    layer = (nn.LSTM if cell == "lstm" else nn.GRU)(embedding_dim, hidden_size, batch_first=True).eval()
    quantized = _quantize(nn.ModuleList([layer]))[0]
    inputs = torch.randn(batch, TOKENS, embedding_dim)

    def run(module: nn.Module, precision: str) -> None:
        with torch.inference_mode(), autocast(CPU, precision):
            module(inputs)

    seconds = _take_turns(
        {
            "float32": lambda: run(layer, "float32"),
            "bfloat16": lambda: run(layer, "bfloat16"),
            "int8": lambda: run(quantized, "float32"),
        }
    )
    return {"cell": cell, "embedding_dim": embedding_dim, "hidden_size": hidden_size, "batch": batch, **seconds}


def _training(hidden_size: int, batch: int) -> Fields:
    embedding_dim = min(hidden_size, 256)
    layer = nn.LSTM(embedding_dim, hidden_size, batch_first=True)
    inputs = torch.randn(batch, WINDOW, embedding_dim, requires_grad=True)

    def run(precision: str) -> None:
        with autocast(CPU, precision):
            sequence, _ = layer(inputs)
        sequence.float().square().mean().backward()  # type: ignore[no-untyped-call]

    seconds = _take_turns({"float32": lambda: run("float32"), "bfloat16": lambda: run("bfloat16")})
    return {"cell": "lstm", "embedding_dim": embedding_dim, "hidden_size": hidden_size, "batch": batch, **seconds}


def _take_turns(work: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median CPU seconds of a call of each."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for call in work.values():
        call()
    for _ in range(ROUNDS):
        for name, call in work.items():
            started, calls = thread_time(), 0
            while calls == 0 or thread_time() - started < LEAST_SECONDS:
                call()
                calls += 1
            seconds[name].append((thread_time() - started) / calls)
    return {name: median(of_name) for name, of_name in seconds.items()}


def _quantize(module: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated stands above
        from torch.ao.quantization import quantize_dynamic

        return quantize_dynamic(module, {nn.LSTM, nn.GRU, nn.Linear}, dtype=torch.qint8)


def cost(folder: Path, encoded_folder: Path, most: int) -> Fields:
    """What a trained model's test score is in each precision; a language model's state does not fit int8 layers."""
    saved, encoded = load_model(folder, CPU), EncodedCorpus.open(encoded_folder)
    test = encoded.split("test")
    fields: Fields = {"model": _describe(saved.config)}
    if isinstance(saved.model, SentimentClassifier):
        models = {"float32": saved.model, "bfloat16": saved.model, "int8": _quantize(saved.model)}
        chosen = np.random.default_rng(1).permutation(len(test))[:most]
        part = EncodedTexts([np.asarray(test.item(int(item))) for item in chosen])
        fields["unit"] = f"accuracy on {len(part):,} test reviews, %"
        for name, model in models.items():
            probs = score_reviews(model, part, CPU, "bfloat16" if name == "bfloat16" else "float32")
            fields[name] = 100 * float((probs.argmax(axis=1) == np.asarray(test.labels)[chosen]).mean())
        return fields
    context = np.asarray(encoded.split("validation").tokens)[-WARM_UP - 1 :]
    tokens = np.asarray(test.tokens)[:most]
    fields["unit"] = f"bits per character of {len(tokens):,}"
    for name in ("float32", "bfloat16"):
        nats = score_text(saved.model, tokens, context, CPU, name, encoded.vocab_size)  # type: ignore[arg-type]
        fields[name] = float(nats.mean()) / math.log(2)
    return fields


def _describe(config: Any) -> str:
    model = config.model
    both = ", both directions" if getattr(model, "bidirectional", False) else ""
    return f"{config.project}: {model.cell} {model.embedding_dim} to {model.hidden_size}{both}"


def to_markdown(results: Fields) -> list[str]:
    """The page."""
    lines = [
        "# Precision",
        "",
        f"Made by `python -m benchmarks.precision` with PyTorch {results['torch']}. Milliseconds of CPU time of one "
        "thread for a call, medians; in brackets how many times faster than float32. Edit the harness, not this page.",
        "",
        f"The processor has: {', '.join(results['capabilities'])}.",
        "",
        f"## Scoring: a layer over texts of {TOKENS} tokens",
        "",
        *_table(results["scoring"], ("float32", "bfloat16", "int8")),
        "",
        f"## Training: forward and backward pass of a layer over {WINDOW} steps",
        "",
        *_table(results["training"], ("float32", "bfloat16")),
    ]
    if results["costs"]:
        lines += [
            "",
            "## What it costs",
            "",
            "| model | score | float32 | bfloat16 | int8 weights |",
            "|---|---|---|---|---|",
        ]
        for row in results["costs"]:
            scores = (f"{row[name]:.3f}" if name in row else "" for name in LABELS)
            lines.append(f"| {row['model']} | {row['unit']} | {' | '.join(scores)} |")
    return lines


def _table(rows: list[Fields], names: tuple[str, ...]) -> list[str]:
    lines = [
        f"| cell | input, hidden | batch | {' | '.join(LABELS[name] for name in names)} |",
        "|---" * (3 + len(names)) + "|",
    ]
    for row in rows:
        shape = (row["cell"], f"{row['embedding_dim']}, {row['hidden_size']}", str(row["batch"]))
        cells = [*shape, f"{1e3 * row['float32']:.2f}"]
        cells += [f"{1e3 * row[name]:.2f} ({row['float32'] / row[name]:.2f})" for name in names[1:]]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
