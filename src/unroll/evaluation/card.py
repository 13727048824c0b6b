"""The model card: one page that says what a version is for, how it was made and judged, and where it falls short.

The form is that of Mitchell et al., "Model Cards for Model Reporting" (2019), with the decision and the cost beside it.
Every figure on it is one that the run measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unroll.config import AnyConfig, LanguageModelConfig
from unroll.data.data_report import DataReport
from unroll.evaluation.decisions import Decision
from unroll.evaluation.intervals import Interval
from unroll.evaluation.report import EvaluationReport
from unroll.evaluation.slices import Slice

NOT_READABLE = "not readable here"
USES = {
    "sentiment": (
        "Classifying whole texts of the kind it was trained on. It reads one text and names one class.",
        "Not for deciding about people, not for other languages or kinds of text than those of its data, and not for "
        "sarcasm or mixed feelings that a single label cannot hold.",
    ),
    "language_model": (
        "Continuing text, and measuring how well text is foreseen, character by character.",
        "Not a source of facts: it writes what looks like its training text. Not for text in other scripts or styles "
        "than those of its data.",
    ),
}


@dataclass(frozen=True)
class CardFacts:
    """What a card is made from."""

    name: str
    version: str
    run_id: str
    config: AnyConfig
    data_digest: str
    data_report: DataReport
    splits: Mapping[str, Mapping[str, float]]
    """Items, tokens and unk_fraction of each split."""
    training: Mapping[str, Any]
    """As in the model's training.json."""
    energy: Mapping[str, float | None] | None
    """Fields of `unroll.training.energy.Energy`; None where nobody counted."""
    evaluation: EvaluationReport
    slices: Sequence[Slice]
    decision: Decision
    code: Mapping[str, str]
    """Versions and the commit that the run was made with."""


def render_card(facts: CardFacts) -> str:
    """The card as Markdown."""
    sections = {
        f"{facts.name}, version {facts.version}": _details(facts),
        "Decision": _decision(facts.decision),
        "Intended use": _uses(facts.config),
        "Metrics": _metrics(facts.evaluation),
        "Slices": _slices(facts),
        "Limits": _limits(facts),
        "Training data": _data(facts, "train", "validation"),
        "Evaluation data": _evaluation_data(facts),
        "Training": _training(facts),
        "Cost": _cost(facts),
        "Made with": _made_with(facts),
    }
    parts = []
    for index, (title, lines) in enumerate(sections.items()):
        parts.append("\n".join([f"{'##' if index else '#'} {title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def shorten_card(card: str, length: int, where: str) -> str:
    """The sections of a card that fit into ``length`` characters, and where the rest is."""
    if len(card) <= length:
        return card
    note = f"\n\n(The whole card: {where}.)\n"
    kept, *sections = card.split("\n\n## ")
    for section in sections:
        if len(kept) + len("\n\n## ") + len(section) + len(note) > length:
            break
        kept += f"\n\n## {section}"
    return kept[: length - len(note)].rstrip() + note


def _details(facts: CardFacts) -> Iterator[str]:
    model = facts.config.model
    direction = "bidirectional " if getattr(model, "bidirectional", False) else ""
    kind = "character language model" if isinstance(facts.config, LanguageModelConfig) else "text classifier"
    layers = "one layer" if model.num_layers == 1 else f"{model.num_layers} layers"
    yield (
        f"A {kind}: {direction}{model.cell.upper()}, {layers} of {model.hidden_size} units, "
        f"{int(facts.training['parameters']):,} parameters. **{facts.decision.outcome}**."
    )


def _decision(decision: Decision) -> Iterator[str]:
    yield f"**{decision.outcome}**: {decision.reason}"
    # a table for each question that the gate asked
    for question, evidence in (decision.evidence or {}).items():
        plain = {
            name.replace("_", " "): _plain(value)
            for name, value in evidence.items()
            if isinstance(value, bool | int | float | str) and name != "sentence"
        }
        if plain:
            yield ""
            yield from _table((f"evidence: {question}", "value"), list(plain.items()))


def _uses(config: AnyConfig) -> Iterator[str]:
    use, misuse = USES[config.project]
    yield f"{use}"
    yield ""
    yield f"{misuse}"


def _metrics(evaluation: EvaluationReport) -> Iterator[str]:
    rival = evaluation.rival
    heads = ["test metric", f"model, {evaluation.confidence:.0%} interval"]
    rows = [[name.removeprefix("test/"), _interval(value)] for name, value in evaluation.metrics.items()]
    if rival is not None:
        heads.append(f"rival: {rival.name}")
        for row, name in zip(rows, evaluation.metrics, strict=True):
            row.append(_interval(rival.metrics[name]) if name in rival.metrics else "")
    yield from _table(heads, rows)


def _slices(facts: CardFacts) -> Iterator[str]:
    what = "bits per character" if facts.config.project == "language_model" else "accuracy"
    heads = ("by", "part", "items", f"{what}, {facts.evaluation.confidence:.0%} interval")
    rows = [(part.group, part.name, f"{part.num_items:,}", _interval(part.value)) for part in facts.slices]
    yield from _table(heads, rows)


def _limits(facts: CardFacts) -> Iterator[str]:
    evaluation = facts.evaluation
    yield f"- Measured on {evaluation.num_items:,} test items of one source; how it does on others is unknown."
    yield "- One training run, one seed: another seed would move the figures, and the intervals do not hold that."
    is_text = facts.config.project == "language_model"
    metric = "test/bits_per_char" if is_text else "test/accuracy"
    rival = evaluation.rival
    if rival is not None and metric in rival.metrics:
        ours, theirs = evaluation.metrics[metric].value, rival.metrics[metric].value
        if (ours > theirs) if is_text else (ours < theirs):
            yield f"- The cheap rival does better: {theirs:.4f} against {ours:.4f}."
    worst = _worst_slice(facts.slices, is_text)
    if worst is not None:
        yield f"- Worst slice: {worst.group}, {worst.name}: {_interval(worst.value)} on {worst.num_items:,} items."
    unknown = facts.splits.get("test", {}).get("unk_fraction")
    if unknown is not None:
        yield f"- {unknown:.2%} of the test tokens are not in its vocabulary."
    yield from (f"- Data: {finding.count:,} {finding.message}" for finding in facts.data_report.warnings)
    yield "- Whatever is unfair or wrong in the training texts may come back in its answers; nobody examined that."


def _worst_slice(slices: Sequence[Slice], is_text: bool) -> Slice | None:
    kept = [part for part in slices if part.num_items >= 20]
    if not kept:
        return None
    return max(kept, key=lambda part: part.value.value if is_text else -part.value.value)


def _data(facts: CardFacts, *names: str) -> Iterator[str]:
    yield f"Source `{facts.config.data.source}`, SHA-256 `{facts.data_digest}`."
    yield ""
    for name in names:
        split = facts.splits[name]
        items = "" if facts.config.project == "language_model" else f"{int(split['items']):,} texts, "
        yield f"- {name}: {items}{int(split['tokens']):,} tokens"
    report = facts.data_report
    yield (
        f"- data report: {len(report.findings)} checks, {_count(len(report.warnings), 'warning')}, "
        f"{_count(len(report.errors), 'error')} (artifact `data/data_report.md` of the run)"
    )


def _evaluation_data(facts: CardFacts) -> Iterator[str]:
    split = facts.splits["test"]
    yield (
        f"{facts.evaluation.num_items:,} items, {int(split['tokens']):,} tokens, read once. Digest of items and labels "
        f"`{facts.evaluation.test_digest}`."
    )


def _training(facts: CardFacts) -> Iterator[str]:
    training = facts.training
    kept = "best_step" if facts.config.training.keep == "best" else "steps"
    yield (
        f"{int(training['steps']):,} steps, {_count(int(training['epochs']), 'epoch')}, "
        f"{training['tokens_per_second']:,.0f} tokens/s, {training['precision']}, "
        f"{training['clipped_fraction']:.1%} of the steps clipped, {_count(int(training['rollbacks']), 'roll-back')}. "
        f"The weights are those of step {int(training[kept]):,}; seed {facts.config.seed}."
    )


def _cost(facts: CardFacts) -> Iterator[str]:
    minutes = float(facts.training["seconds"]) / 60
    yield from _table(
        ("cost of training", ""),
        [
            ("wall time", f"{minutes:.2f} minutes"),
            ("device time", f"{minutes:.2f} minutes of {facts.training['device']}"),
            ("energy, processor", _energy(facts.energy, "processor_joules")),
            ("energy, GPU", _energy(facts.energy, "gpu_joules")),
        ],
    )


def _energy(energy: Mapping[str, float | None] | None, name: str) -> str:
    joules = None if energy is None else energy.get(name)
    if energy is None or joules is None:
        return NOT_READABLE
    return f"{joules / 3600:.3g} Wh over {(energy['seconds'] or 0) / 60:.2f} minutes, the whole device"


def _made_with(facts: CardFacts) -> Iterator[str]:
    yield f"- MLflow run `{facts.run_id}`"
    yield from (f"- {name}: {value}" for name, value in facts.code.items())


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for line in (heads, ["---"] * len(heads), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"


def _interval(interval: Interval) -> str:
    return f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _plain(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
