"""The report of a retraining, as Markdown for a comment and as one page of HTML that needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unroll.evaluation.markdown import block, code, inert, table
from unroll.evaluation.retrain_charts import image, image_of, mermaid
from unroll.retraining import Account, Change, Curve

MOST_CHANGES = 40
NOT_READABLE = "not readable here"
KINDS = {"data": "data", "code": "code", "setting": "setting", "library": "version"}
DIGEST_SHOWN = 12
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border: 1px solid #bbb; padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
code { background: #f0f0f0; padding: 0.1rem 0.25rem; } pre code { padding: 0; }
pre { background: #f0f0f0; padding: 0.8rem; overflow-x: auto; }
img { max-width: 100%; }
"""

Metrics = Mapping[str, Mapping[str, float]]
Draw = Callable[[Curve], list[str]]


def marker(project: str) -> str:
    """A line that nobody sees: by it a comment of an earlier run is found, and changed instead of repeated."""
    return f"<!-- unroll-retrain:{project.replace('_', '-')} -->"


def render_markdown(account: Account, draw: Draw = mermaid) -> str:
    """What came of it, the figures beside the champion's and the rival's, what changed, curves, cost and links."""
    parts = [[marker(account.project)], [f"## {_title(account)}"], list(_decision(account))]
    sections = {
        "Metrics on the test split": _metrics(account),
        "What changed since the champion": _changes(account),
        "Curves": _curves(account, draw),
        "Cost": _cost(account),
        "Stages": _stages(account),
        "Where to look": _links(account),
    }
    for title, lines in sections.items():
        if body := list(lines):
            parts.append([f"### {title}", "", *body])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def render_html(account: Account) -> str:
    """The report with its curves and the evaluation's plots as images, in one file."""
    from markdown_it import MarkdownIt

    text = render_markdown(account, image).removeprefix(marker(account.project))
    plots = sorted(Path(account.plots).glob("*.png")) if account.plots else []
    if plots:
        text += "\n### Plots of the evaluation\n\n" + "\n\n".join(map(image_of, plots)) + "\n"
    # raw HTML is off: what looks like it is shown as it was written
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(_title(account))}</title>\n'
        f"<style>{STYLE}</style>\n{body}</html>\n"
    )


def _title(account: Account) -> str:
    project = account.project.replace("_", " ").capitalize()
    if account.decision == "failed":
        return f"{project}: the retraining failed"
    if account.decision == "skipped":
        return f"{project}: nothing to train"
    verdict: str = "passes the gate, not promoted here" if account.would_promote else account.decision
    if account.is_champions_model and account.decision == "held":
        verdict = "the same model as the champion"
    return f"{project}: {inert(_model(account))}, {verdict}"


def _decision(account: Account) -> Iterator[str]:
    if account.decision == "failed":
        yield "It ended with:"
        yield ""
        yield from block(account.reason)
        yield ""
        yield "The message says what to do. What was finished before is kept: the same command goes on from there."
    else:
        yield f"**{account.decision.capitalize()}.** {inert(account.reason)}"
    yield ""
    asked = f"Reason: {inert(account.asked)}" + (" (forced)" if account.forced else "")
    settings = "".join(f", {code(setting)}" for setting in account.settings[:MOST_CHANGES])
    yield f"{asked}. Preset {code(account.preset)}{settings}."


def _model(account: Account) -> str:
    model = (account.summary or {}).get("model", {})
    return f"version {model['version']} of {model['name']}" if model else "no version"


def _metrics(account: Account) -> Iterator[str]:
    summary, champion = account.summary, account.champion
    if summary is None and champion is None:
        return
    ours: Metrics = summary["metrics"] if summary else {}
    rival: dict[str, Any] = dict((summary or {}).get("rival") or {})
    columns: dict[str, Metrics] = {}
    if summary is not None:
        columns[f"version {inert(str(summary['model']['version']))}"] = ours
    if champion is not None:
        columns[f"champion, version {inert(champion.version)}"] = (
            champion.metrics if account.same_items else _anew(account)
        )
    if rival:
        columns[f"rival: {inert(str(rival.pop('name')))}"] = rival
    names = list(ours) or list(champion.metrics if champion else {})
    rows = [
        [code(name.removeprefix("test/")), *(_interval(metrics.get(name)) for metrics in columns.values())]
        for name in names
    ]
    yield from table(["metric", *columns], rows)
    yield ""
    confidence = summary["config"]["evaluation"]["confidence"] if summary else None
    yield f"In brackets: the {confidence:.0%} interval." if confidence else "In brackets: the interval of each."
    if champion is not None and not account.same_items:
        yield (
            "The champion was registered with other test items. What is shown of it was measured anew on those of this "
            "version; its other metrics were not."
        )


def _anew(account: Account) -> Metrics:
    """The champion's score on the new version's items; the gate computes no interval for it alone."""
    if account.comparison is None:
        return {}
    return {f"test/{account.comparison['metric']}": {"value": float(account.comparison["reference"])}}


def _interval(metric: Mapping[str, float] | None) -> str:
    if metric is None or "value" not in metric:
        return ""
    ends = f" ({metric['low']:.4f} to {metric['high']:.4f})" if "low" in metric and "high" in metric else ""
    return f"{metric['value']:.4f}{ends}"


def _changes(account: Account) -> Iterator[str]:
    if account.changes is None:
        if account.champion is not None:
            yield "Nobody can tell: the champion's run is not in MLflow any more. That counts as changed."
        elif account.decision != "failed":
            yield "There was no champion."
        return
    matter = [change for change in account.changes if change.matters]
    others = [change for change in account.changes if not change.matters]
    if matter:
        yield from _change_table(matter)
    else:
        yield "Nothing that could change the weights."
    if others:
        yield ""
        yield "No reason to train, but different:"
        yield ""
        yield from _change_table(others)


def _change_table(changes: list[Change]) -> Iterator[str]:
    shown = changes[:MOST_CHANGES]
    rows = [[KINDS[each.kind], code(_name(each)), _value(each, each.before), _value(each, each.now)] for each in shown]
    yield from table(["", "what", "champion", "now"], rows)
    if len(changes) > len(shown):
        yield ""
        yield f"And {len(changes) - len(shown):,} more."


def _name(change: Change) -> str:
    return "commit" if change.name.endswith("git.commit") else change.name.removeprefix("version.")


def _value(change: Change, value: str | None) -> str:
    if value is None:
        return "not recorded" if change.kind == "data" or change.name == "unroll" else "none"
    is_digest = change.kind in ("data", "code") or _name(change) == "commit"
    return code(value[:DIGEST_SHOWN] if is_digest else value)


def _curves(account: Account, draw: Draw) -> Iterator[str]:
    for index, curve in enumerate(account.curves):
        if index:
            yield ""
        yield from draw(curve)


def _cost(account: Account) -> Iterator[str]:
    cost = account.cost
    if cost is None:
        return
    device = f"{cost.device_seconds / 60:.2f} minutes of {inert(cost.device)}"
    rows = [
        ("wall time, all stages", f"{cost.wall_seconds / 60:.2f} minutes"),
        ("device time, training", device if cost.device_seconds else "none: found trained"),
        ("energy, processor", _energy(cost.processor_joules)),
        ("energy, GPU", _energy(cost.gpu_joules)),
    ]
    yield from table(["cost", ""], rows)


def _energy(joules: float | None) -> str:
    return NOT_READABLE if joules is None else f"{joules / 3600:.3g} Wh, the whole device"


def _stages(account: Account) -> Iterator[str]:
    if account.summary is None:
        return
    rows = [
        [
            inert(stage["name"]),
            "skipped" if stage["skipped"] else "run",
            f"{stage['seconds']:.1f}",
            inert(stage["reason"], 300),
        ]
        for stage in account.summary["stages"]
    ]
    yield from table(["stage", "", "seconds", "why"], rows)


def _links(account: Account) -> Iterator[str]:
    pages = dict(account.links)
    if account.champion is not None and account.champion.page is not None:
        pages["champion"] = account.champion.page
    for name, url in pages.items():
        yield f"- [{inert(name)}](<{url.replace('<', '%3C').replace('>', '%3E')}>)"
    if account.summary is not None:
        model = account.summary["model"]
        yield f"- MLflow run {code(account.summary['mlflow_run_id'])}"
        yield f"- the version's card: {code('unroll models show {name}/{version}'.format(**model))}"
    if account.champion is not None:
        yield f"- decisions so far: {code(f'unroll models history {account.champion.name}')}"
