"""The end of a run, for a person: one table, a generated passage, and where to look next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN_METRICS = (
    ("test/accuracy", "accuracy"),
    ("test/f1", "F1"),
    ("test/roc_auc", "ROC-AUC"),
    ("test/bits_per_char", "bits per character"),
    ("test/floor_bits_per_char", "exact code length, bits per character"),
)


def print_summaries(summaries: Sequence[dict[str, Any]]) -> None:
    """Print the metrics of each run beside its rival's, on stdout."""
    console = Console()
    table = Table(title="Test split, 95 % intervals", title_justify="left")
    for heading in ("project", "metric", "model", "rival"):
        table.add_column(heading, overflow="fold")
    for summary in summaries:
        name = summary["project"].replace("_", " ")
        for key, label in SHOWN_METRICS:
            if key in summary["metrics"]:
                table.add_row(name, label, _cell(summary["metrics"][key]), _cell((summary["rival"] or {}).get(key)))
                name = ""
        table.add_section()
    console.print(table)
    for summary in summaries:
        _print_facts(console, summary)
    console.print("Look next:  unroll ui      the curves, plots and reports in MLflow and Prefect")
    console.print("            unroll models list")
    if any(summary["project"] == "sentiment" for summary in summaries):
        console.print("            unroll predict 'I expected a bore, but it was a delight.'")
    if any(summary["passage"] for summary in summaries):
        console.print("            unroll generate 'The island' --temperature 0.8")


def _print_facts(console: Console, summary: dict[str, Any]) -> None:
    model, training = summary["model"], summary["training"]
    skipped = [stage["name"] for stage in summary["stages"] if stage["skipped"]]
    rival = summary["rival"]
    console.print(Text(summary["project"].replace("_", " "), style="bold"))
    console.print(
        f"  {model['name']} version {model['version']} {model['decision']}: {model['reason']}", highlight=False
    )
    console.print(
        f"  trained {training['steps']:,} steps in {training['seconds']:.0f} s, "
        f"{training['tokens_per_second']:,.0f} tokens/s, {training['device']}, {training['precision']}; "
        f"all stages {summary['seconds']:.0f} s" + (f"; skipped: {', '.join(skipped)}" if skipped else ""),
        highlight=False,
    )
    if rival is not None:
        console.print(f"  rival: {rival['name']}", highlight=False)
    if summary["passage"]:
        console.print("  generated:", highlight=False)
        console.print(Text("\n".join(f"    {line}" for line in summary["passage"].splitlines())))


def _cell(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"
