"""Texts that stand more than once: within a file, across the splits, or under two labels."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

import numpy as np
import numpy.typing as npt

from unroll.data.corpora import BLANK, ReviewCorpus, RowArray
from unroll.data.data_report import MAX_EXAMPLES, Finding, excerpt, warn_if
from unroll.data.splits import ReviewSplits
from unroll.data.stored_text import StoredText, iter_lines

MIN_LINE_LENGTH = 40
"""Characters from which a line that stands in two splits is no chance."""

Digests = npt.NDArray[np.bytes_]


def duplicates_within(corpus: ReviewCorpus, file: str, digests: Digests) -> Finding:
    """Rows of a Parquet file that repeat the text of an earlier one."""
    filled = np.flatnonzero(digests != BLANK)
    _, first_rows = np.unique(digests[filled], return_index=True)
    repeated = np.delete(filled, first_rows)
    message = f"{'' if len(repeated) else 'no '}rows of the {file} file that repeat the text of an earlier one"
    examples = _text_examples(corpus, file, repeated)
    return Finding(f"duplicates_within_{file}", warn_if(len(repeated)), len(repeated), message, examples)


def duplicates_across(corpus: ReviewCorpus, splits: ReviewSplits, digests: dict[str, Digests]) -> Finding:
    """Distinct texts that stand in the test split and in the training file's other rows."""
    test = digests[splits.test_in][splits.test]
    others = digests["train"] if splits.test_in == "test" else np.delete(digests["train"], splits.test)
    count = len(np.intersect1d(test, others))
    message = f"texts of the test split also in the training file; {splits.dropped:,} training rows dropped for it"
    examples = _text_examples(corpus, "train", splits.dropped_rows)
    return Finding("texts_in_train_and_test", warn_if(count), count, message if count else "no text in both", examples)


def conflicting_labels(corpus: ReviewCorpus, digests: Digests, labels: RowArray) -> Finding:
    """Distinct texts that carry more than one label."""
    filled = np.flatnonzero(digests != BLANK)
    _, first_rows, text_of_row = np.unique(digests[filled], return_index=True, return_inverse=True)
    differs = labels[filled] != labels[filled][first_rows][text_of_row]
    count = len(np.unique(text_of_row[differs]))
    message = "texts of the training file with more than one label" if count else "one label per text"
    examples = _text_examples(corpus, "train", filled[differs])
    return Finding("conflicting_labels", warn_if(count), count, message, examples)


class SharedLines:
    """Long lines of other parts of a text that also stand in its training part, in 8 bytes for each long line.

    Lines are told apart by 64-bit hashes: among ten million of them two differ and look alike once in 400,000 runs.
    """

    def __init__(self, parts: Mapping[str, StoredText]) -> None:
        """Read the long lines of every part but `train`."""
        self._parts = parts
        self._hashes = {name: _hashes_of_long_lines(part) for name, part in parts.items() if name != "train"}
        self._wanted = np.unique(np.concatenate([np.empty(0, np.int64), *self._hashes.values()]))
        self._found = np.zeros(len(self._wanted), np.bool_)

    def look_at(self, lines: list[str]) -> None:
        """Look for them among some lines of the training part."""
        hashes = np.array([hash(line) for line in _long_lines(lines)], np.int64)
        places = np.searchsorted(self._wanted, hashes)
        places = places[self._wanted.take(places, mode="clip") == hashes] if len(self._wanted) else places[:0]
        self._found[places] = True

    def finding(self, name: str) -> Finding:
        """Those of one part, once all of the training part was looked at."""
        is_shared = self._found[np.searchsorted(self._wanted, self._hashes[name])]
        count = int(np.count_nonzero(is_shared))
        message = f"{'' if count else 'no '}lines of {MIN_LINE_LENGTH} characters or more that also stand in train"
        examples = self._examples(name, np.flatnonzero(is_shared)[:MAX_EXAMPLES])
        return Finding(f"lines_in_train_and_{name}", warn_if(count), count, message, examples)

    def _examples(self, name: str, places: RowArray) -> tuple[str, ...]:
        """Excerpts of the long lines of these numbers."""
        if not len(places):
            return ()
        long_lines = (line for lines in iter_lines(self._parts[name]) for line in _long_lines(lines))
        wanted = set(places.tolist())
        upto = islice(enumerate(long_lines), int(places[-1]) + 1)
        return tuple(excerpt(line) for number, line in upto if number in wanted)


def _hashes_of_long_lines(text: StoredText) -> RowArray:
    hashes = [np.array([hash(line) for line in _long_lines(lines)], np.int64) for lines in iter_lines(text)]
    return np.concatenate(hashes)


def _long_lines(lines: list[str]) -> list[str]:
    stripped = [line.strip() for line in lines]
    return [line for line in stripped if len(line) >= MIN_LINE_LENGTH]


def _text_examples(corpus: ReviewCorpus, file: str, rows: RowArray) -> tuple[str, ...]:
    shown = rows[:MAX_EXAMPLES]
    texts = [text for chunk in corpus.iter_texts(file, shown) for text in chunk]
    return tuple(f"{file}, row {row + 1}: {excerpt(text)}" for row, text in zip(shown, texts, strict=True))
