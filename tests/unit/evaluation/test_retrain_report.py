"""The report for each ending: what a person reads in a comment, and that nothing in it can be made to act."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from unroll.errors import ConfigError, TrainingError
from unroll.evaluation.retrain_report import MOST_CHANGES, marker, render_html, render_markdown
from unroll.retraining import Account, Champion, Change, Cost, Curve

GOLDEN = Path(__file__).with_name("retrain_report_held.md")
SUMMARY: dict[str, Any] = {
    "project": "sentiment",
    "config": {"evaluation": {"confidence": 0.95}},
    "mlflow_run_id": "5f0c",
    "stages": [
        {"name": "download", "skipped": True, "seconds": 0.01, "reason": "inputs, settings and code unchanged"},
        {"name": "train", "skipped": False, "seconds": 61.2, "reason": "training.learning_rate changed from 1 to 2"},
    ],
    "metrics": {
        "test/accuracy": {"value": 0.91, "low": 0.9, "high": 0.92},
        "test/roc_auc": {"value": 0.95, "low": 0.94, "high": 0.96},
    },
    "rival": {"name": "TF-IDF | logistic regression", "test/accuracy": {"value": 0.88, "low": 0.87, "high": 0.89}},
    "model": {"name": "unroll-sentiment", "version": "4"},
}
CHAMPION = Champion(
    name="unroll-sentiment",
    version="3",
    run_id="old",
    metrics={"test/accuracy": {"value": 0.905, "low": 0.895, "high": 0.915}},
    page="http://mlflow.example/#/models/unroll-sentiment/versions/3",
)
CHANGES = [
    Change("data", "reviews.csv", "a" * 64, "b" * 64, True),
    Change("code", "unroll.training.fit", "c" * 64, None, True),
    Change("setting", "training.learning_rate", "0.003", "0.004", True),
    Change("library", "version.torch", "2.12.0", "2.13.0", False),
    Change("library", "mlflow.source.git.commit", "d" * 40, "e" * 40, False),
]
LINKS = {"MLflow run": "http://mlflow.example/#/experiments/1/runs/5f0c"}


def account(**parts: Any) -> Account:
    known: dict[str, Any] = {
        "decision": "held",
        "reason": "The challenger is not shown to be better than the champion.",
        "summary": SUMMARY,
        "champion": CHAMPION,
        "changes": CHANGES,
        "curves": [
            Curve("train/loss", {"this version": [[1.0, 0.7], [2.0, 0.5]], "champion": [[1.0, 0.8], [4.0, 0.4]]})
        ],
        "cost": Cost(75.0, 61.0, "cpu (2 cores)", 7_200.0),
        "links": LINKS,
    }
    return Account("sentiment", "sample", ["training.learning_rate=0.004"], "pull request 12", **{**known, **parts})


def test_the_report_of_a_held_model_is_as_it_was_looked_at() -> None:
    assert render_markdown(account()) == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        ({"decision": "promoted"}, "version 4 of unroll-sentiment, promoted"),
        ({"decision": "rejected"}, "version 4 of unroll-sentiment, rejected"),
        ({"would_promote": True}, "version 4 of unroll-sentiment, passes the gate, not promoted here"),
        ({"is_champions_model": True}, "version 4 of unroll-sentiment, the same model as the champion"),
        ({"decision": "skipped", "summary": None, "changes": []}, "nothing to train"),
        ({"decision": "failed", "summary": None}, "the retraining failed"),
    ],
)
def test_each_ending_has_its_title_below_the_hidden_marker(parts: Any, title: str) -> None:
    report = render_markdown(account(**parts))
    lines = report.splitlines()
    assert lines[0] == "<!-- unroll-retrain:sentiment -->"
    assert lines[2] == f"## Sentiment: {title}"


def test_the_first_champion_has_nobody_beside_it_but_the_rival() -> None:
    report = render_markdown(account(decision="promoted", champion=None, changes=None))
    assert "There was no champion." in report
    assert "| metric | version 4 | rival: TF-IDF &#124; logistic regression |" in report
    assert "models history" not in report


def test_a_failure_says_what_failed_and_what_had_changed() -> None:
    failed = account(summary=None, curves=[], cost=None, links={})
    failed.fail(TrainingError("the loss stayed non-finite; lower training.learning_rate\nsecond line with ``` in it"))
    report = render_markdown(failed)
    assert "````text\nthe loss stayed non-finite; lower training.learning_rate\nsecond line" in report
    assert "| setting | `training.learning_rate` | `0.003` | `0.004` |" in report
    assert "### Cost" not in report
    early = Account("language_model", "no-such", [], "asked for")
    early.fail(ConfigError("There is no preset"))
    report = render_markdown(early)
    assert report.startswith("<!-- unroll-retrain:language-model -->\n\n## Language model: the retraining failed\n")
    assert "There was no champion" not in report, "nobody got as far as to look"


def test_a_champion_of_other_items_is_shown_with_what_was_measured_anew_only() -> None:
    comparison = {"metric": "accuracy", "reference": 0.5}
    report = render_markdown(account(same_items=False, comparison=comparison))
    assert "| `accuracy` | 0.9100 (0.9000 to 0.9200) | 0.5000 |" in report
    assert "other test items" in report
    assert "0.9050" not in report


def test_a_champion_whose_run_is_gone_is_said_to_be_unknown() -> None:
    assert "the champion's run is not in MLflow any more" in render_markdown(account(changes=None))


def test_what_was_found_trained_cost_nothing_and_energy_is_read_or_not_told() -> None:
    assert "| energy, processor | 2 Wh, the whole device |" in render_markdown(account())
    report = render_markdown(account(cost=Cost(3.0, 0.0, "cpu")))
    assert "none: found trained" in report
    assert report.count("not readable here") == 2


def test_hostile_text_neither_breaks_a_table_nor_acts() -> None:
    evil = "a | b `c` @octocat <img src=x onerror=alert(1)> #1 **x**\n\n# head\n<!-- unroll-retrain:other -->"
    summary = {**SUMMARY, "model": {"name": evil, "version": evil}, "rival": {"name": evil}, "mlflow_run_id": evil}
    summary["stages"] = [{"name": evil, "skipped": False, "seconds": 1.0, "reason": evil}]
    summary["metrics"] = {evil: SUMMARY["metrics"]["test/accuracy"]}
    hostile = account(
        reason=evil,
        summary=summary,
        champion=replace(CHAMPION, version=evil, name=evil, page="http://x/> <b>"),
        changes=[Change("setting", evil, evil, evil, True), Change("data", evil, evil, evil, True)],
        cost=Cost(1.0, 1.0, evil),
        links={evil: "javascript:alert(1)", "second": "http://x/<a>|b"},
    )
    hostile = replace(hostile, preset=evil, settings=[evil], asked=evil)
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(render_markdown(hostile))
    kinds = set(re.findall(r"<([a-z]+\d?)", rendered.replace("<!-- unroll-retrain:sentiment -->", "", 1)))
    tables = {"table", "thead", "tbody", "tr", "th", "td"}
    assert kinds <= {"h2", "h3", "p", "strong", "code", "pre", "ul", "li", "a", *tables}
    assert rendered.count("<!--") == 1
    assert not re.search(r"@\w", re.sub(r"<(code|pre)[^>]*>.*?</\1>", "", rendered, flags=re.DOTALL))
    assert 'href="javascript:' not in rendered
    for found in re.findall(r"<table>.*?</table>", rendered, re.DOTALL):
        widths = {row.count("<t") - 1 for row in re.findall(r"<tr>.*?</tr>", found, re.DOTALL)}
        assert len(widths) == 1


def test_a_report_fits_into_a_comment_however_much_changed() -> None:
    many = [Change("setting", f"section.{number}", "x" * 9_000, "y" * 9_000, True) for number in range(2_000)]
    report = render_markdown(account(changes=many, reason="z" * 100_000))
    assert f"And {2_000 - MOST_CHANGES:,} more." in report
    failed = account(changes=many)
    failed.fail(TrainingError("e" * 500_000))
    assert max(len(report), len(render_markdown(failed))) < 65_000


def test_the_page_needs_nothing_beside_it_and_shows_the_images(tmp_path: Path) -> None:
    (tmp_path / "roc.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page = render_html(account(plots=str(tmp_path), reason="<script>alert(1)</script> <b>"))
    assert page.count('<img src="data:image/png;base64,') == 2
    assert not re.search(r"<(script|link|iframe)|src=\"(?!data:)", page)
    assert "&lt;script&gt;" in page
    assert marker("sentiment") not in page
    assert "mermaid" not in page
    assert render_html(account(plots=None, curves=[])).count("<img") == 0
