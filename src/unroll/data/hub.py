"""Data sets that the `datasets` library loads, by hub name or folder, written out as Parquet.

The library runs in a child process, because it fixes its cache folders when it is imported: a child can be given its
own, so nothing is left in the home folder, whatever this process imported before, and its memory goes with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unroll.data.downloads import TransientError
from unroll.errors import DataError

_ANSWER = "answer.json"
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class LoadedSplit:
    """One split as a Parquet file. ``class_names`` maps a ClassLabel column to its names."""

    path: Path
    columns: tuple[str, ...]
    class_names: dict[str, tuple[str, ...]]


def load_splits(name: str, columns: Sequence[str], scratch: Path) -> dict[str, LoadedSplit]:
    """Load ``name`` (a hub name or a folder) and write the columns of its train and test splits below ``scratch``.

    A lone split stands under its own name. Raises TransientError (no network), DataError (nothing that loads).
    """
    scratch.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", __name__, name, str(scratch), *columns]
    finished = subprocess.run(
        command, env=_environment(name, scratch), capture_output=True, text=True, errors="replace", check=False
    )
    answer_path = scratch / _ANSWER
    if not answer_path.is_file():
        raise DataError(
            f"Loading {name} through datasets ended with exit code {finished.returncode}: {finished.stderr[-800:]}"
        )
    answer = json.loads(answer_path.read_text(encoding="utf-8"))
    if "error" in answer:
        raise _as_error(name, answer)
    return {
        split: LoadedSplit(
            scratch / f"{split}.parquet",
            tuple(facts["columns"]),
            {column: tuple(names) for column, names in facts["class_names"].items()},
        )
        for split, facts in answer["splits"].items()
    }


def is_offline() -> bool:
    """Whether the environment forbids the hub (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE)."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in _OFFLINE)


def _environment(name: str, scratch: Path) -> dict[str, str]:
    environment = dict(os.environ)
    source_folder = str(Path(__file__).resolve().parents[2])
    paths = [source_folder, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    if not is_offline():  # offline, only what the user's own cache already holds can be loaded
        environment.setdefault("HF_HOME", str(scratch / "home"))
    if Path(name).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return environment | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def _as_error(name: str, answer: dict[str, Any]) -> Exception:
    if answer["errno"]:
        return OSError(answer["errno"], os.strerror(answer["errno"]), name)
    message = f"{name} cannot be loaded through datasets: {answer['error']}: {answer['message']}"
    return TransientError(message) if answer["transient"] else DataError(message)


def _load_and_write(name: str, scratch: Path, columns: Sequence[str]) -> dict[str, Any]:
    import datasets

    loaded = datasets.load_dataset(name, cache_dir=str(scratch / "cache"))
    wanted = [split for split in loaded if split in ("train", "test")] or list(loaded)[:1]
    splits = {}
    for split in wanted:
        rows = loaded[split]
        chosen = [column for column in dict.fromkeys(columns) if column in rows.column_names]
        if chosen:
            rows.select_columns(chosen).to_parquet(str(scratch / f"{split}.parquet"))
        names = {
            column: feature.names
            for column, feature in rows.features.items()
            if isinstance(feature, datasets.ClassLabel)
        }
        splits[str(split)] = {"columns": rows.column_names, "class_names": names}
    return {"splits": splits}


def _describe(error: Exception) -> dict[str, Any]:
    import httpx

    cause = error.__cause__ or error.__context__
    full = next((e.errno for e in (error, cause) if isinstance(e, OSError) and e.errno in (28, 122)), None)
    offline = type(error).__name__ == "OfflineModeIsEnabled"
    transient = isinstance(error, ConnectionError | TimeoutError | httpx.HTTPError) and not offline
    return {"error": type(error).__name__, "message": str(error)[:800], "transient": transient, "errno": full}


def main(arguments: Sequence[str]) -> None:
    """Child's entry: NAME SCRATCH COLUMN…; writes the splits and ``answer.json``."""
    name, scratch, *columns = arguments
    try:
        answer = _load_and_write(name, Path(scratch), columns)
    except Exception as error:  # whatever the library raises is told to the parent, which knows what to do
        answer = _describe(error)
    shutil.rmtree(Path(scratch) / "cache", ignore_errors=True)
    (Path(scratch) / _ANSWER).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
