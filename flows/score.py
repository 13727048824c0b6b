"""The batch-scoring flow."""

from __future__ import annotations

from typing import Any

from prefect import flow

from tasks.score import ScoringRequest, score
from unroll.bulk import PART_ROWS


@flow(name="score", flow_run_name="score {input_path}", log_prints=False)
def score_file(
    input_path: str,
    output_path: str,
    text_column: str = "text",
    model: str | None = None,
    precision: str = "float32",
    part_rows: int = PART_ROWS,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a file's rows with labels, probabilities and the model's version beside them; goes on where it was stopped.

    Returns the manifest.
    """
    manifest: dict[str, Any] = score(
        ScoringRequest(input_path, output_path, text_column, model, precision, part_rows, overwrite)
    )
    return manifest
