"""The end of a run, for a person: the metrics beside the rival's, generated passages, and where to look next."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SHOWN_METRICS = (
    ("test/accuracy", "accuracy"),
    ("test/f1", "F1"),
    ("test/roc_auc", "ROC-AUC"),
    ("test/bits_per_char", "bits per character"),
    ("test/floor_bits_per_char", "exact code length"),
)
LABEL_WIDTH, CELL_WIDTH = 22, 25
WIDEST = 100

Passages = Sequence[Mapping[str, Any]]
"""Generated texts, each with its `temperature` and `text`."""


def print_summaries(summaries: Sequence[dict[str, Any]], passages: Sequence[Passages]) -> None:
    """Print the metrics of each run beside its rival's, on stdout; no line is wider than the terminal."""
    lines: list[str] = []
    for summary, made in zip(summaries, passages, strict=True):
        lines += [*_metrics(summary), "", *_facts(summary), *_passages(made), ""]
    lines += _hints({summary["project"] for summary in summaries})
    print("\n".join(lines))


def _metrics(summary: dict[str, Any]) -> Iterator[str]:
    confidence = summary["config"]["evaluation"]["confidence"]
    rival = summary["rival"] or {}
    yield _row(summary["project"].replace("_", " ").upper(), "model", "rival" if rival else "")
    yield _row("test split", *[f"value   {confidence:.0%} interval"] * (2 if rival else 1))
    for key, label in SHOWN_METRICS:
        if key in summary["metrics"]:
            # the floor belongs to the text: it is the same for any model of it
            shown_rival = None if "floor" in key else rival.get(key)
            yield _row(label, _cell(summary["metrics"][key]), _cell(shown_rival))


def _row(label: str, *cells: str) -> str:
    return f"{label:{LABEL_WIDTH}}{''.join(f'{cell:{CELL_WIDTH}}' for cell in cells)}".rstrip()


def _cell(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['value']:.4f}  {interval['low']:.4f}-{interval['high']:.4f}"


def _facts(summary: dict[str, Any]) -> Iterator[str]:
    model, training = summary["model"], summary["training"]
    skipped = [stage["name"] for stage in summary["stages"] if stage["skipped"]]
    yield from _wrap("model", f"{model['name']} version {model['version']}, {model['decision']}: {model['reason']}")
    yield from _wrap(
        "training",
        f"{training['steps']:,} steps in {training['seconds']:.0f} s, {training['tokens_per_second']:,.0f} tokens/s, "
        f"{training['device']}, {training['precision']}",
    )
    if summary["rival"] is not None:
        yield from _wrap("rival", summary["rival"]["name"])
    if skipped:
        yield from _wrap("skipped", f"{', '.join(skipped)}: unchanged since an earlier run")
    yield from _wrap("took", f"{summary['seconds']:.1f} s, all stages")


def _passages(passages: Passages) -> Iterator[str]:
    for passage in passages:
        yield f"generated at temperature {passage['temperature']:g}"
        for line in passage["text"].splitlines():
            yield from textwrap.wrap(line, _width(), initial_indent="  ", subsequent_indent="  ")


def _hints(projects: set[str]) -> Iterator[str]:
    yield "Look next"
    yield "  unroll ui             curves, plots and reports, in MLflow and Prefect"
    yield "  unroll models list    versions, and what was decided on them"
    if "sentiment" in projects:
        yield "  unroll predict 'The critics found it dull. I found it moving.'"
    if "language_model" in projects:
        yield "  unroll generate 'The island' --temperature 0.8"


def _wrap(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, _width(), initial_indent=f"{label:12}", subsequent_indent=" " * 12)


def _width() -> int:
    return min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
