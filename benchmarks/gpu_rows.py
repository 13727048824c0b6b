"""``make bench-gpu``: rates of training, scoring and sampling on a GPU by shape and precision, in under nine minutes.

Needs only what `unroll` itself needs, as `make gpu` does, and made data, so it runs on a bare machine from the tree
alone: ``PYTHONPATH=src:. python -m benchmarks.gpu_rows --out FOLDER``. Beside each rate of training on text stands the
share that it is of the rate of the products alone. Without a card it says so and measures the CPU.

What cuDNN's fast kernel asks for (one layer and direction, float16, hidden and input sizes multiples of 128, hidden at
most 1024, batch a multiple of 8 and at most 128) decides some of the shapes; the others stand beside them.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_bench import REVIEW_SHAPES, TEXT_SHAPES, Bench, Measured
from unroll.data.encoded import EncodedCorpus
from unroll.presets import make_config
from unroll.stages import download, encode
from unroll.store import Artifact
from unroll.training.device import resolve_device

BUDGET_SECONDS = 500.0
COUNTS = (1, 64, 512)
"""Texts sampled together."""


Cell = tuple[str, Callable[[], Measured]]
"""A name, and what measures it."""


def main() -> int:
    """Measure what the time allows, print a table, write JSON; 1 if nothing was measured or anything failed."""
    arguments = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    device = resolve_device(arguments.device)
    deadline = time.monotonic() + (30 if arguments.quick else arguments.seconds)
    machine = _machine(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        results, left_out, failed = _measure_all(list(_cells(Path(scratch), device, arguments.quick)), deadline)
    for word, names in (("not measured", left_out), ("FAILED", failed)):
        for name in names:
            print(f"{word}: {name}")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = [asdict(each) for each in results]
        content = {"machine": machine, "rows": rows, "not_measured": left_out, "failed": failed}
        (arguments.out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if results and not failed else 1


def _measure_all(cells: list[Cell], deadline: float) -> tuple[list[Measured], list[str], list[str]]:
    """What was measured, what there was no time or memory for, and what failed."""
    results, left_out, failed = list[Measured](), list[str](), list[str]()
    for number, (name, measure) in enumerate(cells):
        if time.monotonic() > deadline:
            left_out.append(name)
            continue
        started = time.monotonic()
        try:
            measured = measure()
        except torch.OutOfMemoryError as error:
            left_out.append(f"{name}: {str(error).splitlines()[0][:120]}")
            continue
        except Exception as error:
            logging.exception("%s failed", name)
            failed.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
            continue
        results.append(measured)
        left = (len(cells) - number - 1) * (time.monotonic() - started)
        print(f"{_line(measured)}   ({min(left, deadline - time.monotonic()):.0f} s left)", flush=True)
    return results, left_out, failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, cpu")
    parser.add_argument("--out", type=Path, help="folder of gpu.json")
    parser.add_argument("--seconds", type=float, default=BUDGET_SECONDS, help="after which nothing more is begun")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    return parser.parse_args()


def _cells(scratch: Path, device: torch.device, quick: bool) -> Iterator[Cell]:
    """What is to be measured, the most wanted first, as names and functions."""
    precisions = ("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16")
    text = _encode("language_model", scratch, 20_000 if quick else 1_000_000)
    reviews = _encode("sentiment", scratch, 300 if quick else 6_000)
    bench = Bench(device, quick, text, reviews)
    for name, shape in TEXT_SHAPES.items():
        for precision in precisions:
            yield f"training text, {name}, {precision}", lambda n=name, s=shape, p=precision: bench.train_text(n, s, p)
    for name, of_reviews in REVIEW_SHAPES.items():
        for precision in precisions:
            yield (
                f"training reviews, {name}, {precision}",
                lambda n=name, s=of_reviews, p=precision: bench.train_reviews(n, s, p),
            )
    for count in COUNTS:
        yield f"sampling, {count} texts", lambda c=count: bench.sample(c)
    for precision in precisions:
        yield f"scoring reviews, {precision}", lambda p=precision: bench.score(p)


def _encode(project: str, scratch: Path, sample_size: int) -> EncodedCorpus:
    config = make_config(project, {"data": {"sample_size": sample_size}})
    corpus, encoded = scratch / f"{project}-corpus", scratch / f"{project}-encoded"
    for folder in (corpus, encoded):
        folder.mkdir()
    download(config, corpus)
    encode(config, Artifact("download", "", str(corpus), ""), encoded)
    return EncodedCorpus.open(encoded)


def _line(measured: Measured) -> str:
    share = "" if measured.share_of_products is None else f", {100 * measured.share_of_products:.0f} % of the products"
    return (
        f"{measured.row:17} {measured.shape:28} {measured.precision:9} {measured.median:>13,.0f} {measured.unit} "
        f"({measured.lowest:,.0f} to {measured.highest:,.0f}){share}"
    )


def _machine(device: torch.device) -> dict[str, Any]:
    on_gpu = device.type == "cuda"
    return {
        "card": torch.cuda.get_device_name(device) if on_gpu else "no GPU: CPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
    }


if __name__ == "__main__":
    sys.exit(main())
