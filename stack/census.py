"""What a stack holds that somebody would miss."""

from __future__ import annotations

from pathlib import Path

from stack.vault import Vault, children
from unroll.errors import UnrollError

COUNTED = {
    "prefect": {
        # every start makes the deployments anew, the scheduler their next runs, and `watch` looks every few minutes
        "flow runs": "SELECT count(*) FROM flow_run JOIN flow ON flow.id = flow_run.flow_id "
        "WHERE flow_run.start_time IS NOT NULL AND flow.name <> 'watch'",
    },
    "mlflow": {
        "runs": "SELECT count(*) FROM runs",
        "registered models": "SELECT count(*) FROM registered_models",
    },
}
"""What somebody would miss, by database, with the question that counts it."""


def what_is_there(vault: Vault) -> list[str]:
    """What a restore would replace, in words; empty for a stack that was never used."""
    import psycopg
    from psycopg import errors

    there = []
    for database, questions in COUNTED.items():
        try:
            with vault.connect(database) as connection:
                for what, question in questions.items():
                    try:
                        (count,) = connection.execute(question).fetchone() or (0,)
                    except errors.UndefinedTable:
                        continue
                    if count:
                        there.append(f"{count} {what} in {'Prefect' if database == 'prefect' else 'MLflow'}")
        except psycopg.OperationalError as error:
            if "does not exist" not in str(error):
                raise UnrollError(f"PostgreSQL does not answer: {error}") from error
    if (folder := vault.artifact_folder) is not None and files_below(folder):
        there.append(f"artifacts in {folder}")
    return there


def files_below(folder: Path) -> list[Path]:
    """Every file among a folder's artifacts."""
    inside = (path for child in children(folder) for path in [child, *child.rglob("*")])
    return sorted(path for path in inside if path.is_file())
