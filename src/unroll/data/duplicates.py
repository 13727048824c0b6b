"""Texts that stand more than once: within a file, across the splits, or under two labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unroll.data.corpora import BLANK, ReviewCorpus, RowArray
from unroll.data.data_report import MAX_EXAMPLES, Finding, excerpt, warn_if
from unroll.data.splits import ReviewSplits

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


def shared_lines(parts: dict[str, str], name: str) -> Finding:
    """Long lines of a part that also stand in the training part."""
    known = {line.strip() for line in parts["train"].split("\n")}
    lines = [line.strip() for line in parts[name].split("\n")]
    shared = [line for line in lines if len(line) >= MIN_LINE_LENGTH and line in known]
    message = f"{'' if shared else 'no '}lines of {MIN_LINE_LENGTH} characters or more that also stand in train"
    examples = tuple(excerpt(line) for line in shared[:MAX_EXAMPLES])
    return Finding(f"lines_in_train_and_{name}", warn_if(len(shared)), len(shared), message, examples)


def _text_examples(corpus: ReviewCorpus, file: str, rows: RowArray) -> tuple[str, ...]:
    shown = rows[:MAX_EXAMPLES]
    texts = [text for chunk in corpus.iter_texts(file, shown) for text in chunk]
    return tuple(f"{file}, row {row + 1}: {excerpt(text)}" for row, text in zip(shown, texts, strict=True))
