from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import SentimentDataConfig, TextDataConfig
from unroll.data import stored_text
from unroll.data.corpora import ReviewCorpus, ReviewWriter, TextCorpus
from unroll.data.data_report import DataReport, Finding
from unroll.data.sources import fetch_reviews
from unroll.data.splits import ReviewSplits, split_reviews
from unroll.data.validation import validate_reviews, validate_text
from unroll.errors import ValidationError

CONFIG = SentimentDataConfig()
TEXT_CONFIG = TextDataConfig()
Rows = list[tuple[str | None, int]]


def make_corpus(folder: Path, train: Rows, test: Rows | None = None) -> ReviewCorpus:
    for split, rows in (("train", train), ("test", test)):
        if rows is not None:
            with ReviewWriter(folder / f"{split}.parquet") as writer:
                writer.write([text for text, _ in rows], [label for _, label in rows])
    (folder / "corpus.json").write_text(json.dumps({"kind": "reviews", "class_names": ["no", "yes"]}))
    return ReviewCorpus.open(folder)


def sound(count: int, prefix: str = "a film like any other") -> Rows:
    return [(f"{prefix} {' '.join(f'{row:03}')}", row % 2) for row in range(count)]


def report_on(folder: Path, train: Rows, test: Rows | None = None) -> DataReport:
    corpus = make_corpus(folder, train, test)
    return validate_reviews(corpus, split_reviews(corpus, CONFIG, 1), CONFIG)


def report_on_text(folder: Path, text: str) -> DataReport:
    (folder / "corpus.json").write_text('{"kind": "text"}')
    (folder / "text.txt").write_text(text, encoding="utf-8", newline="")
    return validate_text(TextCorpus.open(folder), TEXT_CONFIG)


def test_a_sound_corpus_has_no_errors_and_counts_its_rows(tmp_path: Path) -> None:
    report = report_on(tmp_path, sound(400))
    report.raise_on_error()
    assert not report.warnings
    assert report.facts["rows"] == {"train": 324, "validation": 36, "test": 40}
    assert report.facts["classes"]["test"] == {"no": 20, "yes": 20}
    assert report.facts["words per training text"]["p50"] == 8


def test_duplicates_are_counted_inside_and_across_the_files(tmp_path: Path) -> None:
    train = [*sound(200), *[("again and again", 1)] * 3, ("in both", 0)]
    test = [*sound(20, "new"), ("in both", 0), ("in both", 0)]
    report = report_on(tmp_path, train, test)
    assert report.finding("duplicates_within_train").count == 2
    assert report.finding("duplicates_within_test").count == 1
    assert report.finding("texts_in_train_and_test").count == 1
    assert "in both" in report.finding("texts_in_train_and_test").examples[0]
    assert report.finding("duplicates_within_train").severity == "warning"


def test_a_text_with_two_labels_is_reported(tmp_path: Path) -> None:
    report = report_on(tmp_path, [*sound(200), ("torn", 0), ("torn", 1), ("torn", 1)], sound(20, "new"))
    assert report.finding("conflicting_labels").count == 1


def test_few_rows_without_text_are_a_warning_and_many_an_error(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    report = report_on(few, [*sound(400), (None, 0), (" ", 1)])
    assert report.finding("rows_without_text").severity == "warning"
    assert report.finding("rows_without_text").count == 2
    assert not report.errors
    report = report_on(many, [*sound(400), *[("", 0)] * 5])
    with pytest.raises(ValidationError, match=r"rows_without_text: .*1\.23% of train"):
        report.raise_on_error()


def test_a_label_out_of_range_is_an_error_with_its_row(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, [*sound(50), ("strange", 2)])
    rows = np.arange(51)
    splits = ReviewSplits(rows[:30], rows[30:40], rows[40:], "train", rows[:0], 0)
    finding = validate_reviews(corpus, splits, CONFIG).finding("labels_in_range")
    assert (finding.severity, finding.count) == ("error", 1)
    assert finding.examples == ("train, row 51: 2",)


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, sound(50))
    rows = np.arange(50)
    report = validate_reviews(corpus, ReviewSplits(rows[:30], rows[:0], rows[30:], "train", rows[:0], 0), CONFIG)
    assert [finding.name for finding in report.errors] == ["splits_not_empty"]
    assert "validation" in report.errors[0].message


def test_a_rare_class_is_a_warning(tmp_path: Path) -> None:
    rows = [(text, 0) for text, _ in sound(400)] + [(f"rare {row}", 1) for row in range(8)]
    assert report_on(tmp_path, rows).finding("class_balance").severity == "warning"


@pytest.mark.parametrize(
    ("text", "kind", "places"),
    [
        ("caf\ufffd \ufffd", "replacement_characters", 2),
        ("cafÃ© itâ€™s Â£5", "mojibake", 3),
        ("fine\x85 and \x01", "control_characters", 2),
    ],
)
def test_encoding_damage_is_found_with_an_example(tmp_path: Path, text: str, kind: str, places: int) -> None:
    report = report_on(tmp_path, [*sound(200), (text, 1)])
    finding = report.finding(kind)
    assert (finding.severity, finding.count) == ("warning", 1)
    assert f"({places} places)" in finding.message
    assert "train, row 201" in finding.examples[0]
    assert (
        sum(report.finding(other).count for other in ("replacement_characters", "mojibake", "control_characters")) == 1
    )


def test_honest_accents_are_no_damage(tmp_path: Path) -> None:
    report = report_on(
        tmp_path, [*sound(200), ("SÃO PAULO, Âge, château, café \u2013 \u2018quoted\u2019\tand\nlines", 1)]
    )
    assert not report.warnings


def test_words_that_training_never_saw_lower_the_coverage(tmp_path: Path) -> None:
    rows: Rows = [(f"alpha{row} beta{row}", row % 2) for row in range(200)]
    finding = report_on(tmp_path, rows).finding("vocabulary_coverage")
    assert finding.severity == "warning"
    assert "0.00% of the words" in finding.message


def test_the_page_shows_every_check_and_breaks_on_no_text(tmp_path: Path) -> None:
    report = report_on(tmp_path, [*sound(200), *[("a | `b` <br />\n", 1)] * 3])
    page = report.to_markdown()
    assert all(f"| {finding.name} |" in page for finding in report.findings)
    assert "`train, row 202: a | 'b' <br />\\n`" in page
    assert json.loads(json.dumps(report.to_dict()))["findings"][0]["name"] == "splits_not_empty"


def test_every_error_is_listed_at_once() -> None:
    findings = tuple(Finding(name, "error", 1, f"{name} is wrong", ("here",)) for name in ("one", "two"))
    with pytest.raises(ValidationError, match=r"(?s)one is wrong.*here.*two is wrong"):
        DataReport(findings, {}).raise_on_error()


def test_a_sound_text_is_measured(tmp_path: Path) -> None:
    report = report_on_text(tmp_path, "".join(f"line {row} of a story that goes on and on\n" for row in range(300)))
    assert not report.warnings
    assert report.facts["characters"]["validation"] == round(0.05 * len((tmp_path / "text.txt").read_text()))
    assert sum(report.facts["characters"].values()) == len((tmp_path / "text.txt").read_text())
    assert report.facts["character coverage"]["of tokens"] == 1.0


def test_lines_repeated_across_the_parts_of_a_text_are_found(tmp_path: Path) -> None:
    line = "the very same line, forty characters or more of it\n"
    body = "".join(f"line {row} is here once and nowhere else at all\n" for row in range(100))
    report = report_on_text(tmp_path, line + body + line)
    assert report.finding("lines_in_train_and_test").count == 1
    assert report.finding("lines_in_train_and_validation").count == 0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 6), min_size=60, max_size=150), st.integers(60, 200))
def test_a_text_read_in_small_pieces_gets_the_same_report(
    tmp_path_factory: pytest.TempPathFactory, choices: list[int], size: int
) -> None:
    lines = ("", "short", "é", "caf\ufffd", "a line of more than forty characters, or so", " " * 45, "x" * 50)
    text = "\n".join(lines[choice] for choice in choices)
    folder = tmp_path_factory.mktemp("text")
    whole = report_on_text(folder, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_text, "CHARACTERS_PER_PIECE", size)
        assert report_on_text(folder, text) == whole
    per_line = [len(line) for line in text.split("\n") if line]
    ranks = {f"p{rank}": round(float(np.percentile(per_line, rank))) for rank in (5, 50, 90, 95, 99, 100) if per_line}
    assert whole.facts["characters per line"] == ranks
    rest = whole.facts["characters"]
    test_lines = [line.strip() for line in text[len(text) - rest["test"] :].split("\n")]
    known = {line.strip() for line in text[: rest["train"]].split("\n")}
    assert whole.finding("lines_in_train_and_test").count == sum(
        len(line) >= 40 and line in known for line in test_lines
    )


def test_characters_that_training_never_sees_are_found(tmp_path: Path) -> None:
    text = "a b c\n" * 200
    cut = round(len(text) * 0.87)
    report = report_on_text(tmp_path, text[:cut] + "ж" + text[cut + 1 :])
    assert report.finding("vocabulary_coverage").severity == "warning"


@pytest.mark.corpus
@pytest.mark.skipif("UNROLL_MIRROR" not in os.environ, reason="needs the real corpora: set UNROLL_MIRROR")
def test_imdb_has_the_known_duplicates(tmp_path: Path) -> None:
    config = SentimentDataConfig(source="imdb")
    fetch_reviews(config, 1, tmp_path, Path(os.environ["UNROLL_MIRROR"]))
    corpus = ReviewCorpus.open(tmp_path)
    splits = split_reviews(corpus, config, 1)
    report = validate_reviews(corpus, splits, config)
    counted = ("duplicates_within_train", "duplicates_within_test", "texts_in_train_and_test")
    assert [report.finding(name).count for name in counted] == [96, 199, 123]
    assert (splits.dropped, len(splits.test)) == (123, 25_000)
    assert corpus.class_names == ("negative", "positive")
    assert not report.errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.json", "test.parquet", "train.parquet"]
