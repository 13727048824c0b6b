"""The results of a run as Markdown tables: ratios first, then the values they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BUSY_CORES = 0.1
"""Cores' worth of other processes from which a row is called busy."""

Fields = dict[str, Any]


def to_markdown(results: Fields) -> str:
    """A whole page."""
    rows = [row for row in results["rows"] if "error" not in row]
    lines = ["# Benchmarks", "", *_introduction(results), "", "## Ratios", "", *_ratio_table(rows)]
    for row in results["rows"]:
        lines += ["", f"## {row['title']}", "", *(_row_section(row) if "error" not in row else _failure(row))]
    return "\n".join(lines) + "\n"


def short_table(results: Fields) -> str:
    """Names and ratios, for a terminal."""
    lines = []
    for row in results["rows"]:
        if "error" in row:
            lines.append(f"{row['name']}: failed: {row['error']}")
            continue
        if not row["promises"]:
            lines += [
                f"{row['name']:15} {c['name']:64} {_spread(c['value']):>22} {row['unit']}" for c in row["contestants"]
            ]
        for promise in row["promises"]:
            verdict = "" if promise["kept"] is None else f"  {promise['asked']}: {_verdict(promise)}"
            lines.append(f"{row['name']:15} {promise['what']:64} {_spread(promise['ratio']):>22}{verdict}")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _introduction(results: Fields) -> list[str]:
    machine = results["machine"]
    lines = [
        f"Made by `make bench` in {results['seconds'] / 60:.1f} minutes: {machine['cores']} cores, {machine['cpu']}, "
        f"PyTorch {machine['torch']} with {machine['threads']} threads, Python {machine['python']}; {results['date']}, "
        f"commit {results['commit']}. Edit the harness, not this page.",
        "",
        "Contestants take turns (A B A B …) in bouts of seconds; a ratio is of two bouts of one round. Shown are "
        "medians, with quartiles in brackets. *By CPU time* is the same ratio over the CPU seconds that each side "
        "used: waiting for a busy machine is not in it, sharing its caches is.",
    ]
    if results["quick"]:
        lines += ["", "**A run with `--quick`: tiny sizes, to see that everything runs. Its figures mean nothing.**"]
    return lines


def _ratio_table(rows: list[Fields]) -> list[str]:
    lines = ["| row | ratio or value | median (quartiles) | by CPU time | asked | kept |", "|---|---|---|---|---|---|"]
    for row in rows:
        for promise in row["promises"]:
            cells = (
                row["title"],
                promise["what"],
                f"**{number(promise['ratio']['median'])}** ({_quartiles(promise['ratio'])})",
                number(promise["cpu_ratio"]["median"]),
                promise["asked"],
                _verdict(promise),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _row_section(row: Fields) -> list[str]:
    lines = [
        f"{row['data']}." if row["data"] else "",
        "",
        f"| contestant | what it does | {row['unit']} |",
        "|---|---|---|",
    ]
    for contestant in row["contestants"]:
        lines.append(f"| {contestant['name']} | {contestant['what']} | {_spread(contestant['value'])} |")
    lines += ["", f"- {_load(row)}", *(f"- {note}" for note in row["notes"])]
    lines += [f"- {line}" for line in _check_lines(row["checks"])]
    return lines if row["data"] else lines[2:]


def _load(row: Fields) -> str:
    before, after = row["load_average"]["before"][0], row["load_average"]["after"][0]
    text = f"rounds: {row['rounds']}; load average {before:.1f} before, {after:.1f} after"
    elsewhere = row["elsewhere_cores"]
    if elsewhere is None:
        return f"{text}; what other processes took is not known here."
    busy = f"**busy machine**: other processes took {elsewhere:.2f} cores meanwhile"
    quiet = f"quiet machine: other processes took {elsewhere:.2f} cores"
    return f"{text}; {busy if elsewhere >= BUSY_CORES else quiet}."


def _check_lines(checks: Fields) -> Iterable[str]:
    if "padding_fraction" in checks:
        yield f"Ours padded {100 * checks['padding_fraction']:.1f} % of the places."
        if not checks.get("padding_kept", True):
            yield "**That is more than the 5 % asked for.**"
    if "loss_at_last_step" in checks:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in checks["loss_at_last_step"].items())
        yield f"Loss at step {checks['steps']} from the same weights on the same windows, nats a character: {losses}."
    if "same_text" in checks:
        same = checks["same_text"]
        verdict = "the same text" if same["same"] else "**another text**"
        yield f"From the same weights and noise both make {verdict} ({same['characters']} characters)."
    if "bits_per_char_by_precision" in checks:
        found = checks["bits_per_char_by_precision"]
        bits = ", ".join(f"{name} {value:.4f}" for name, value in found["bits_per_char"].items())
        yield (
            f"What the products' precision costs, bits a character on {found['characters']:,} held-out ones after "
            f"{found['steps']} steps of training: {bits}."
        )
    if "identical_tokens" in checks:
        same = checks["identical_tokens"]
        yield f"Identical tokens: {same['tokens']:,} of {same['reviews']:,} reviews compared one by one."
    if "overhead_at_ten_minutes" in checks:
        found = checks["overhead_at_ten_minutes"]
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in found["shares"].items())
        verdict = "kept" if found["kept"] else "**not kept**"
        asked = f"at most {100 * found['at_most']:.0f} % was asked for: {verdict}"
        yield f"Added to ten minutes of training: {shares} ({100 * found['tracking']:.1f} % of it tracking); {asked}."
    if "largest_difference" in checks:
        differences = ", ".join(f"{name} {value:.1g}" for name, value in checks["largest_difference"].items())
        yield f"Largest difference of a probability from the plain way's: {differences}."
    for name, of_name in checks.get("latency_ms", {}).items():
        yield f"{name}: p50 {of_name['p50']:.2f} ms, p99 {of_name['p99']:.2f} ms, of {of_name['calls']:,} calls."
    for stage in checks.get("memory_of_stages", ()):
        yield (
            f"{stage['text']}, {stage['stage']}: {number(stage['resident_mib'])} MiB resident, "
            f"{_mebibytes(stage['anonymous_mib'])} of them not of files, {stage['seconds']:.0f} s."
        )
    if "test_accuracy" in checks:
        scored = checks["test_accuracy"]
        which = "the chapter's, recorded runs of the preset `book`" if scored["recorded"] else "the chapter's"
        for name, runs in (("unroll", [scored["unroll"]]), (which, scored["chapter"])):
            found = ", ".join(_accuracy(run) for run in runs)
            yield f"Test accuracy after {scored['epochs']} epochs, {name}: {found}."
        yield f"Equal within the interval: {'yes' if scored['equal'] else '**no, ours is worse**'}."


def _accuracy(run: Fields) -> str:
    return f"{run['value']:.4f} ({run['low']:.4f}–{run['high']:.4f}) in {run['seconds'] / 60:.1f} minutes"  # noqa: RUF001


def _mebibytes(value: float | None) -> str:
    return "an unknown part" if value is None else f"at most {number(value)}"


def _failure(row: Fields) -> list[str]:
    return [f"**Not measured**: {row['error']}"]


def _verdict(promise: Fields) -> str:
    return {True: "yes", False: "**no**", None: ""}[promise["kept"]]


def _spread(values: Fields) -> str:
    return f"{number(values['median'])} ({_quartiles(values)})"


def _quartiles(values: Fields) -> str:
    return f"{number(values['low'])}–{number(values['high'])}"  # noqa: RUF001
