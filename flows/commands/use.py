"""``unroll predict`` and ``unroll generate``: the champion, or another version, at work."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.early_checks import check_output
from flows.commands.registry import open_registry
from flows.commands.table_file import check_suffix, writing_table
from unroll.config import registered_name
from unroll.errors import DataError
from unroll.presets import make_config

if TYPE_CHECKING:
    from unroll.data.review_files import Batch

logger = logging.getLogger("unroll.use")


def predict_texts(texts: Sequence[str], model: str | None, precision: str = "float32") -> None:
    """Print label, probability and text, separated by tabs, a line for each text."""
    with _model_folder("sentiment", model) as folder:
        from unroll.prediction import SentimentPredictor
        from unroll.training.device import resolve_device

        predictor = SentimentPredictor.load(folder, resolve_device("auto"))
    probs = predictor.predict(texts, precision)
    for text, row in zip(texts, probs, strict=True):
        line = " ".join(text.split())
        print(f"{predictor.class_names[row.argmax()]}\t{row.max():.4f}\t{line}")


def predict_file(
    input_path: Path, output_path: Path, text_column: str, model: str | None, precision: str = "float32"
) -> None:
    """Write the input's columns with ``label`` and ``probability_<class>`` beside them, whole or not at all.

    A missing text counts as an empty one. Raises DataError for an input without that column or without rows.
    """
    from unroll.bulk_input import check_texts, free_name, schema_and_rows

    check_suffix(output_path)
    check_output(output_path)
    table = check_texts(input_path, text_column)
    if output_path.suffix.lower() == ".parquet":
        schema, rows = schema_and_rows(input_path, table, text_column)
    else:
        schema, rows = None, sum(len(batch[text_column]) for batch in table.read([text_column]))
    with _model_folder("sentiment", model) as folder:
        from unroll.data.progress import Progress
        from unroll.prediction import SentimentPredictor
        from unroll.training.device import resolve_device

        predictor = SentimentPredictor.load(folder, resolve_device("auto"))
    progress = Progress(f"predicting {input_path.name}", rows, "texts")
    with writing_table(output_path, schema) as output:
        for batch in table.read(table.columns):
            texts = _texts(input_path, batch, text_column, progress.done)
            predictions = predictor.predict_table(texts, precision)
            taken = list(table.columns)
            columns = predictions.rename(
                columns={name: free_name(name, taken, "predicted_") for name in predictions.columns}
            )
            output.write({**batch, **{str(name): columns[name].tolist() for name in columns}})
            progress.advance(len(texts))


def generate_texts(
    prompt: str, count: int, model: str | None, options: dict[str, Any], precision: str = "float32"
) -> None:
    """Print the prompt and what follows it: one text as it is made, several together with a line between them."""
    with _model_folder("language_model", model) as folder:
        from unroll.generation import SamplingSettings, TextGenerator
        from unroll.training.device import resolve_device

        settings = SamplingSettings(**options)
        generator = TextGenerator.load(folder, resolve_device("auto"), precision)
    if count > 1:
        logger.info("making %d texts of %d characters", count, settings.length)
        print("\n---\n".join(generator.generate([prompt] * count, settings)))
        return
    sys.stdout.write(prompt)
    for character in generator.stream(prompt, settings):
        sys.stdout.write(character)
        sys.stdout.flush()
    sys.stdout.write("\n")


@contextmanager
def _model_folder(project: str, model: str | None) -> Iterator[Path]:
    registry = open_registry()
    version = registry.resolve(registered_name(make_config(project, {})), model)
    logger.info("using %s version %s", version.name, version.number)
    with registry.model_folder(version) as folder:
        yield folder


def _texts(path: Path, batch: Batch, text_column: str, rows_before: int) -> list[str]:
    for row, text in enumerate(batch[text_column], rows_before + 1):
        if text is not None and not isinstance(text, str):
            raise DataError(
                f"{path}, row {row:,}: column {text_column!r} holds {text!r} ({type(text).__name__}); expected text. "
                "Choose another with --text-column NAME."
            )
    return [text or "" for text in batch[text_column]]
