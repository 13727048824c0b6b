"""``make book``: the chapter's two projects with the chapter's settings, whole, on the real corpora; a row each.

Runs that the store holds are not trained again. Seven trainings of 5 to 50 minutes on one core each: leave it running,
or start it again after a stop. Needs the corpora: from their public homes, or from the folder in UNROLL_MIRROR.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results" / "book.json"
SEEDS = (1, 2, 3)
RUNS = (
    *(("sentiment", preset, seed) for preset in ("book", "book_bidirectional") for seed in SEEDS),
    ("language-model", "book", 1),
)
BOOK_STEP = 9_500
"""Where the book prints the language model's training loss, 1.10 nats per character."""


def main() -> int:
    """Run all, write the rows as JSON, print them as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file of the rows")
    arguments = parser.parse_args()
    rows = [_run(*run) for run in RUNS]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print("\n".join(markdown(rows)))
    return 0


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as tables, the sentiment runs with mean and spread over the seeds."""
    lines = ["| preset | seed | test accuracy | training, minutes | MLflow run |", "|---|---|---|---|---|"]
    for preset in ("book", "book_bidirectional"):
        ours = [row for row in rows if (row["project"], row["preset"]) == ("sentiment", preset)]
        for row in ours:
            lines.append(
                f"| `{preset}` | {row['seed']} | {_interval(row['test/accuracy'], 4)} | {row['seconds'] / 60:.1f} | "
                f"`{row['mlflow_run_id']}` |"
            )
        values = [row["test/accuracy"]["value"] for row in ours]
        spread = f", standard deviation {stdev(values):.4f}" if len(values) > 1 else ""
        lines.append(f"| `{preset}` | all | **{mean(values):.4f}**{spread} | | |")
    lines += [
        "",
        f"| training loss at step {BOOK_STEP:,} | test | validation: last, best | training, minutes | MLflow run |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        if row["project"] == "language-model":
            cells = (
                f"**{row['train_loss']:.3f}** nats",
                _interval(row["test/bits_per_char"], 3),
                f"{row['last_validation']:.3f}, {row['best_validation']:.3f} at step {row['best_step']:,}",
                f"{row['seconds'] / 60:.1f}",
                f"`{row['mlflow_run_id']}`",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _run(project: str, preset: str, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "summary.json"
        command = [sys.executable, "-m", "flows.cli", "run", project, "--config", preset, "--set", f"seed={seed}"]
        subprocess.run([*command, "--summary", str(path)], check=True, stdout=subprocess.DEVNULL)
        summary = json.loads(path.read_text(encoding="utf-8"))
    metric = "test/accuracy" if project == "sentiment" else "test/bits_per_char"
    training = summary["training"]
    row = {
        "project": project,
        "preset": preset,
        "seed": seed,
        metric: summary["metrics"][metric],
        "rival": {"name": summary["rival"]["name"], **summary["rival"][metric]},
        "data": summary["data"],
        **{name: training[name] for name in ("steps", "seconds", "tokens_per_second", "device", "precision")},
        "weights_sha256": summary["model"]["weights_sha256"],
        "mlflow_run_id": summary["mlflow_run_id"],
    }
    return row | _from_mlflow(project, summary["mlflow_run_id"])


def _from_mlflow(project: str, run_id: str) -> dict[str, Any]:
    """Versions, commit and threads of a run; of a language model, points of its curves."""
    from flows.embedded import prepare_environment, workplace

    prepare_environment(workplace())
    from mlflow import MlflowClient

    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    run = client.get_run(run_id)
    found: dict[str, Any] = {
        "threads": int(run.data.metrics["training/threads"]),
        "commit": run.data.tags.get("mlflow.source.git.commit"),
        "torch": run.data.tags["version.torch"],
    }
    if project == "language-model":
        losses = client.get_metric_history(run_id, "train/loss")
        # a point is the mean since the one before: the first at or after the step has the step in it
        later = [point for point in losses if point.step >= BOOK_STEP]
        looks = client.get_metric_history(run_id, "validation/bits_per_char")
        best = min(looks, key=lambda point: point.value)
        found |= {
            "train_loss": min(later, key=lambda point: point.step).value,
            "last_validation": max(looks, key=lambda point: point.step).value,
            "best_validation": best.value,
            "best_step": best.step,
        }
    return found


def _interval(interval: dict[str, float], digits: int) -> str:
    return f"{interval['value']:.{digits}f} ({interval['low']:.{digits}f}–{interval['high']:.{digits}f})"  # noqa: RUF001


if __name__ == "__main__":
    sys.exit(main())
