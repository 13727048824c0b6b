"""Is a corpus fit to train on? Checks on rows, classes, encodings, duplicates, vocabulary and lengths.

Errors: an empty split, a label out of range, more than 1 % of rows without text. The rest is a warning: such rows
without text are left out of all splits, and training rows that stand in the test split are dropped, by
`unroll.data.splits`.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from unroll.config import SentimentDataConfig, TextDataConfig
from unroll.data.corpora import CHUNK_ROWS, ReviewCorpus, RowArray, TextCorpus
from unroll.data.data_report import DataReport, Finding, warn_if
from unroll.data.duplicates import SharedLines, conflicting_labels, duplicates_across, duplicates_within
from unroll.data.encoders import count_characters
from unroll.data.encoding_damage import DamageCounter
from unroll.data.progress import Progress
from unroll.data.row_checks import RowChecks
from unroll.data.splits import ReviewSplits, cut_text
from unroll.data.stored_text import StoredText, iter_lines, iter_pieces
from unroll.data.text import code_points

__all__ = ["DataReport", "Finding", "validate_reviews", "validate_text"]

MIN_CLASS_SHARE = 0.1
"""Of a uniform share, below which a class counts as rare."""
MIN_COVERAGE = {"words": 0.9, "characters": 0.999}
"""Share of the validation tokens that the training split must know."""
_PERCENTILES = (5, 50, 90, 95, 99, 100)
_WORD = re.compile(r"\w+")


def validate_reviews(corpus: ReviewCorpus, splits: ReviewSplits, config: SentimentDataConfig) -> DataReport:
    """Check reviews in constant memory, in three passes.

    Duplicates are those of the source: rows beyond the first with a text, inside train.parquet and inside test.parquet,
    and distinct texts that stand in both (without a test.parquet: in the rows held out for testing and in the others).
    """
    del config  # what it decides, the fractions and the columns, is already in the splits and the corpus
    files = ["train", "test"] if corpus.has_test else ["train"]
    damage, rows = DamageCounter("texts"), RowChecks(len(corpus.class_names))
    lengths = {file: _look_at_rows(corpus, file, rows, damage) for file in files}
    digests = {file: corpus.digests(file) for file in files}
    labels = {file: corpus.labels(file) for file in files}
    parts = {name: splits.place(name) for name in ("train", "validation", "test")}
    counts = {name: _class_counts(labels[file][rows_of], corpus) for name, (file, rows_of) in parts.items()}
    word_coverage, words = _word_coverage(corpus, splits)
    findings = [
        _not_empty({name: len(rows_of) for name, (_, rows_of) in parts.items()}),
        *rows.findings({file: len(labels[file]) for file in files}),
        _class_balance(counts),
        *damage.findings(),
        *(duplicates_within(corpus, file, digests[file]) for file in files),
        duplicates_across(corpus, splits, digests),
        conflicting_labels(corpus, digests["train"], labels["train"]),
        _coverage_finding("words", word_coverage),
    ]
    facts = {
        "rows": {name: len(rows_of) for name, (_, rows_of) in parts.items()},
        "classes": {name: dict(zip(corpus.class_names, found, strict=True)) for name, found in counts.items()},
        "training rows dropped, text also in test": splits.dropped,
        "rows without text, left out": splits.blank_rows,
        "vocabulary coverage": word_coverage,
        "words per training text": _percentiles(words),
        **{f"characters per text, {file} file": _percentiles(lengths[file]) for file in files},
    }
    return DataReport(tuple(findings), facts)


def validate_text(corpus: TextCorpus, config: TextDataConfig) -> DataReport:
    """Check running text: parts, encoding, characters that training never sees, lines that stand in two parts.

    Read piece by piece, three times over; memory grows by 8 bytes for each long line outside the training part.
    """
    parts = cut_text(corpus, config)
    damage, shared = DamageCounter("lines"), SharedLines(parts)
    for name, part in parts.items():
        _look_at_lines(name, part, damage, shared)
    counts = {name: Counter(count_characters([piece] for piece in iter_pieces(part))) for name, part in parts.items()}
    coverage = _coverage(set(counts["train"]), counts["validation"])
    findings = [
        _not_empty({name: len(part) for name, part in parts.items()}),
        *damage.findings(),
        *(shared.finding(name) for name in ("validation", "test")),
        _coverage_finding("characters", coverage),
    ]
    facts = {
        "characters": {name: len(part) for name, part in parts.items()},
        "distinct characters": {name: len(counts[name]) for name in parts},
        "character coverage": coverage,
        "characters per line": _percentiles_of(_line_lengths(corpus.text)),
    }
    return DataReport(tuple(findings), facts)


def _look_at_rows(corpus: ReviewCorpus, file: str, rows: RowChecks, damage: DamageCounter) -> RowArray:
    """Run the checks on each chunk of a Parquet file; returns the characters of each text."""
    import pandas as pd
    import pyarrow.compute as pc

    lengths, start = [np.empty(0, dtype=np.int64)], 0
    for table in corpus.iter_tables(file, CHUNK_ROWS):
        frame = table.to_pandas()
        frame.index = pd.RangeIndex(start + 1, start + len(frame) + 1)
        rows.check(frame, file)
        damage.add(table["text"], [f"{file}, row {row}" for row in frame.index])
        characters = pc.fill_null(pc.utf8_length(table["text"]), 0)
        lengths.append(np.asarray(characters.to_numpy(), dtype=np.int64))
        start += len(frame)
    return np.concatenate(lengths)


def _look_at_lines(name: str, part: StoredText, damage: DamageCounter, shared: SharedLines) -> None:
    import pyarrow as pa

    progress = Progress(f"checking {name}", len(part), "characters")
    first, num_read = 1, 0
    for lines in iter_lines(part):
        damage.add(pa.array(lines, pa.string()), [f"{name}, line {first + index}" for index in range(len(lines))])
        if name == "train":
            shared.look_at(lines)
        first += len(lines)
        num_read += len(lines) + sum(map(len, lines))
        progress.advance(min(num_read, len(part)) - progress.done)


def _line_lengths(text: StoredText) -> Counter[int]:
    """How many lines there are of each length, empty ones left out."""
    lengths, unfinished = Counter[int](), 0
    for piece in iter_pieces(text):
        ends = np.flatnonzero(code_points(piece) == ord("\n"))
        of_piece = np.diff(ends, prepend=-1 - unfinished) - 1
        lengths.update(dict(zip(*(array.tolist() for array in np.unique(of_piece, return_counts=True)), strict=True)))
        unfinished = len(piece) - 1 - int(ends[-1]) if len(ends) else unfinished + len(piece)
    lengths[unfinished] += 1
    del lengths[0]
    return lengths


def _not_empty(sizes: dict[str, int]) -> Finding:
    empty = [name for name, size in sizes.items() if not size]
    message = f"nothing in {', '.join(empty)}" if empty else ", ".join(f"{n} {size:,}" for n, size in sizes.items())
    return Finding("splits_not_empty", "error" if empty else "ok", len(empty), message)


def _class_counts(labels: RowArray, corpus: ReviewCorpus) -> list[int]:
    num_classes = len(corpus.class_names)
    known = labels[(labels >= 0) & (labels < num_classes)]
    return [int(count) for count in np.bincount(known, minlength=num_classes)]


def _class_balance(counts: dict[str, list[int]]) -> Finding:
    rare, shares = 0, list[float]()
    for found in counts.values():
        share = np.array(found) / max(sum(found), 1)
        rare += int(np.sum(share < MIN_CLASS_SHARE / len(found)))
        shares.append(float(share.min()))
    smallest = ", ".join(f"{name} {share:.1%}" for name, share in zip(counts, shares, strict=True))
    advice = "; accuracy alone says little about a rare class" if rare else ""
    return Finding("class_balance", warn_if(rare), rare, f"smallest class: {smallest}{advice}")


def _word_coverage(corpus: ReviewCorpus, splits: ReviewSplits) -> tuple[dict[str, float], RowArray]:
    """Shares of the validation words that stand in train, and the number of words of each training text."""
    known, lengths = set[str](), list[int]()
    for texts in corpus.iter_texts("train", splits.train):
        for text in texts:
            words = _WORD.findall(text.lower())
            known.update(words)
            lengths.append(len(words))
    seen = Counter[str]()
    for texts in corpus.iter_texts("train", splits.validation):
        for text in texts:
            seen.update(_WORD.findall(text.lower()))
    return _coverage(known, seen), np.array(lengths, dtype=np.int64)


def _coverage(known: set[str], seen: Counter[str]) -> dict[str, float]:
    both = [token for token in seen if token in known]
    return {
        "of tokens": sum(seen[token] for token in both) / max(seen.total(), 1),
        "of types": len(both) / max(len(seen), 1),
    }


def _coverage_finding(unit: str, coverage: dict[str, float]) -> Finding:
    tokens, types = coverage["of tokens"], coverage["of types"]
    low = tokens < MIN_COVERAGE[unit]
    message = f"train knows {tokens:.2%} of the {unit} of validation, {types:.1%} of the distinct ones"
    return Finding("vocabulary_coverage", warn_if(low), int(low), message)


def _percentiles(lengths: RowArray) -> dict[str, int]:
    values, counts = np.unique(lengths, return_counts=True)
    return _percentiles_of(Counter(dict(zip(values.tolist(), counts.tolist(), strict=True))))


def _percentiles_of(counts: Counter[int]) -> dict[str, int]:
    """Of values that occur so often; between two values in proportion, as `numpy.percentile` does it."""
    values = sorted(counts)
    if not values:
        return {}
    last_places = np.cumsum([counts[value] for value in values]) - 1
    places = np.array(_PERCENTILES) / 100 * last_places[-1]
    low, high = (np.searchsorted(last_places, bound(places)) for bound in (np.floor, np.ceil))
    ordered = np.array(values, dtype=np.float64)
    percentiles = ordered[low] + (ordered[high] - ordered[low]) * (places - np.floor(places))
    return {f"p{rank}": round(float(value)) for rank, value in zip(_PERCENTILES, percentiles, strict=True)}
