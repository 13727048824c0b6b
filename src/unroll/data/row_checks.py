"""The schema that each row of reviews must fit, checked chunk by chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unroll.data.data_report import MAX_EXAMPLES, Finding

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

MAX_BLANK_SHARE = 0.01


class RowChecks:
    """The schema of a chunk of rows, and what failed it so far."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._schema = _review_schema(num_classes)
        self._failures: dict[str, Counter[str]] = {"text": Counter(), "label": Counter()}
        self._examples: dict[str, list[str]] = {"text": [], "label": []}

    def check(self, frame: pd.DataFrame, file: str) -> None:
        """Check a chunk, whose index holds row numbers."""
        from pandera.errors import SchemaErrors

        try:
            self._schema.validate(frame, lazy=True)
        except SchemaErrors as error:
            cases = error.failure_cases.drop_duplicates(["column", "index"])
            for column, row, case in zip(cases["column"], cases["index"], cases["failure_case"], strict=True):
                name = column if column in self._failures else "text"
                self._failures[name][file] += 1
                if len(self._examples[name]) < MAX_EXAMPLES:
                    self._examples[name].append(f"{file}, row {row}: {case!r}")

    def findings(self, num_rows: dict[str, int]) -> Iterator[Finding]:
        """What failed, once every file (its rows given by name) was checked."""
        blank = self._failures["text"]
        shares = {file: blank[file] / max(num_rows[file], 1) for file in num_rows}
        too_many = max(shares.values()) > MAX_BLANK_SHARE
        shown = ", ".join(f"{share:.2%} of {file}" for file, share in shares.items())
        yield Finding(
            "rows_without_text",
            "error" if too_many else "warning" if blank.total() else "ok",
            blank.total(),
            f"rows with no text or only white space: {shown}"
            + (f"; more than {MAX_BLANK_SHARE:.0%}: is data.text_column right?" if too_many else ", left out"),
            tuple(self._examples["text"]),
        )
        wrong = self._failures["label"].total()
        message = (
            f"labels outside 0 .. {self._num_classes - 1}" if wrong else f"all within 0 .. {self._num_classes - 1}"
        )
        examples = tuple(self._examples["label"])
        yield Finding("labels_in_range", "error" if wrong else "ok", wrong, message, examples)


def _review_schema(num_classes: int) -> pandera.DataFrameSchema:
    import pandera.pandas as pandera

    filled = pandera.Check(lambda texts: ~(texts.str.isspace() | (texts == "")), name="filled")
    in_range = pandera.Check.in_range(0, num_classes - 1)
    return pandera.DataFrameSchema(
        {"text": pandera.Column(str, filled, nullable=False), "label": pandera.Column("int64", in_range)}, strict=True
    )
