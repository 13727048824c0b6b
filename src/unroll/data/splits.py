"""Which rows train, which choose and which judge: seeded, stratified, and without a text standing on two sides."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unroll.config import SentimentDataConfig, TextDataConfig
from unroll.data.corpora import BLANK, ReviewCorpus, RowArray, TextCorpus
from unroll.data.stored_text import StoredText
from unroll.errors import DataError

Mask = npt.NDArray[np.bool_]
Digests = npt.NDArray[np.bytes_]


class ReviewSplits(NamedTuple):
    """Ascending row numbers, int64, of each split."""

    train: RowArray
    """Rows of train.parquet."""
    validation: RowArray
    """Rows of train.parquet."""
    test: RowArray
    """Rows of the Parquet file that ``test_in`` names."""
    test_in: str
    """``test`` where the source brought a test split, else ``train``."""
    dropped_rows: RowArray
    """Rows of train.parquet left out because their exact text also stands in the test split."""
    blank_rows: int
    """Rows without any text, left out of all splits."""

    @property
    def dropped(self) -> int:
        """Training rows left out because their exact text also stands in the test split."""
        return len(self.dropped_rows)

    def place(self, split: str) -> tuple[str, RowArray]:
        """Parquet file (``train`` or ``test``) and rows of a split, as `ReviewCorpus.iter_texts` takes them."""
        rows = {"train": self.train, "validation": self.validation, "test": self.test}[split]
        return (self.test_in if split == "test" else "train"), rows


class TextSplits(NamedTuple):
    """Contiguous parts of a text as ranges of its character positions."""

    train: range
    validation: range
    test: range | None
    """None where the source brought its own test text: then the whole of that."""


def split_reviews(corpus: ReviewCorpus, config: SentimentDataConfig, seed: int) -> ReviewSplits:
    """Divide the rows of a corpus.

    1. Test: the source's own split, or a stratified ``test_fraction`` of the rows.
    2. Training rows whose exact text is also a test text are dropped.
    3. Validation: a stratified ``validation_fraction`` of what is left. Rows with one text go to one side together, so
       a text that was trained on is never validated on; a text under two labels counts for the class of its first row.

    The result depends on the rows, the fractions and the seed alone. Raises DataError where a class is left without
    rows in some split.
    """
    digests, labels = corpus.digests("train"), corpus.labels("train")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(corpus.class_names):
        raise DataError(f"{corpus.folder} holds labels outside 0 .. {len(corpus.class_names) - 1}; fetch it again.")
    rows = np.flatnonzero(digests != BLANK)
    blank_rows = len(digests) - len(rows)
    if corpus.has_test:
        all_test_digests = corpus.digests("test")
        test_in, test, remaining = "test", np.flatnonzero(all_test_digests != BLANK), rows
        blank_rows += len(all_test_digests) - len(test)
        test_digests, test_labels = all_test_digests[test], corpus.labels("test")[test]
    else:
        held_out = _draw(labels[rows], np.ones(len(rows), dtype=np.int64), config.test_fraction, seed, "test")
        test_in, test, remaining = "train", rows[held_out], rows[~held_out]
        test_digests, test_labels = digests[test], labels[test]
    also_in_test = np.isin(digests[remaining], test_digests)
    kept = remaining[~also_in_test]
    chosen = _draw_texts(digests[kept], labels[kept], config.validation_fraction, seed)
    train, validation = kept[~chosen], kept[chosen]
    parts = {"train": labels[train], "validation": labels[validation], "test": test_labels}
    _require_every_class(corpus, parts, int(np.sum(also_in_test)))
    return ReviewSplits(train, validation, test, test_in, remaining[also_in_test], blank_rows)


def split_text(num_characters: int, config: TextDataConfig, test_given: bool) -> TextSplits:
    """Cut a text: the last ``test_fraction`` tests (unless a test text is given), ``validation_fraction`` before it.

    Fractions are shares of ``num_characters``, and their parts no longer than ``max_test_characters`` and
    ``max_validation_characters``. Raises DataError where a part would be shorter than two characters.
    """
    num_test = 0 if test_given else _share(num_characters, config.test_fraction, config.max_test_characters)
    num_validation = _share(num_characters, config.validation_fraction, config.max_validation_characters)
    end = num_characters - num_test
    train, validation = range(end - num_validation), range(end - num_validation, end)
    parts = {"train": len(train), "validation": num_validation, "test": 2 if test_given else num_test}
    short = [f"{name} {size}" for name, size in parts.items() if size < 2]
    if short:
        raise DataError(
            f"{num_characters:,} characters are too few to cut: {', '.join(short)}; expected at least two in each "
            "part. Give a longer text, or raise data.validation_fraction or data.test_fraction."
        )
    return TextSplits(train, validation, None if test_given else range(end, num_characters))


def cut_text(corpus: TextCorpus, config: TextDataConfig) -> dict[str, StoredText]:
    """The parts of a corpus by name (train, validation, test), left on disk. Raises DataError, see `split_text`.

    Of a test text that the source brought, ``max_test_characters`` are taken from its start.
    """
    text, given = corpus.text, corpus.test_text
    ranges = split_text(len(text), config, given is not None)
    parts = {name: text.part(part) for name, part in ranges._asdict().items() if part is not None}
    return parts if given is None else {**parts, "test": given.part(range(len(given))[: config.max_test_characters])}


def _share(num_characters: int, fraction: float, most: int | None) -> int:
    share = round(num_characters * fraction)
    return share if most is None else min(share, most)


def _draw_texts(digests: Digests, labels: RowArray, fraction: float, seed: int) -> Mask:
    """Mask of the rows whose text is drawn; all rows with one text share its fate."""
    _, first_rows, text_of_row, copies = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first_rows)  # texts in the order of the file, not of their digests
    drawn = np.empty(len(order), dtype=np.bool_)
    drawn[order] = _draw(labels[first_rows[order]], copies[order], fraction, seed, "validation")
    return drawn[text_of_row]


def _draw(labels: RowArray, weights: RowArray, fraction: float, seed: int, name: str) -> Mask:
    """Mask of a stratified draw: of each class, items at random until they weigh ``fraction`` of it or more."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    drawn = np.zeros(len(labels), dtype=np.bool_)
    targets = _targets(np.bincount(labels, weights).astype(np.float64), fraction)
    for label in range(len(targets)):
        items = generator.permutation(np.flatnonzero(labels == label))
        weight_before = np.cumsum(weights[items]) - weights[items]
        drawn[items[weight_before < max(targets[label], 1)]] = True
    return drawn


def _targets(sizes: npt.NDArray[np.float64], fraction: float) -> RowArray:
    """Rows to draw of each class: their sum is ``fraction`` of all, rounded; largest remainders are rounded up."""
    exact = sizes * fraction
    targets = np.floor(exact).astype(np.int64)
    left = round(float(exact.sum())) - int(targets.sum())
    targets[np.argsort(targets - exact, kind="stable")[:left]] += 1
    return targets


def _require_every_class(corpus: ReviewCorpus, parts: dict[str, RowArray], dropped: int) -> None:
    for split, labels in parts.items():
        counts = np.bincount(labels, minlength=len(corpus.class_names))
        absent = [name for name, count in zip(corpus.class_names, counts, strict=True) if not count]
        if absent:
            raise DataError(
                f"The {split} split ({len(labels):,} rows) has no row of class {', '.join(map(repr, absent[:5]))}, "
                f"after {dropped:,} training rows were dropped whose text is also a test text; expected every "
                "class in every split. Add rows of that class, or raise data.validation_fraction or data.test_fraction."
            )
