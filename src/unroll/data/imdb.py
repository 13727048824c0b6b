"""The Large Movie Review Dataset (Maas et al. 2011, ACL: Learning Word Vectors for Sentiment Analysis)."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unroll.data.downloads import Backoff, reach, with_retries
from unroll.data.hub import LoadedSplit, is_offline, load_splits
from unroll.data.labels import LabelMap
from unroll.data.review_files import parquet_table, require_columns
from unroll.data.review_import import SplitFacts, write_table
from unroll.errors import DataError, DownloadError

logger = logging.getLogger(__name__)

HUB_NAME = "stanfordnlp/imdb"
LABELS = LabelMap(("negative", "positive"), {"neg": 0, "pos": 1, "0": 0, "1": 1})
EXPECTED = {
    "train": SplitFacts(25_000, 33_132_811, "e1607dd9e500736d0cf58da8384ebf717b735a0854c5e0c10a95f57e96f5c273"),
    "test": SplitFacts(25_000, 32_350_685, "3909f6c6a77dc9195af7ac8841898cfd78f73deb49c1227943577265aa3daa11"),
}


def fetch_imdb(folder: Path, mirror: Path | None, backoff: Backoff | None = None) -> dict[str, Any]:
    """Write train.parquet and test.parquet from ``<mirror>/imdb``, or else from the hub; return their facts.

    Raises DownloadError saying what was tried, where neither gives the 25,000 + 25,000 reviews, whole.
    """
    tried = list[str]()
    for origin, name in _places(mirror):
        scratch = folder / "_scratch"
        try:
            splits = _load(origin, name, scratch, backoff or Backoff())
            return {"origin": origin, "files": _write(splits, folder)}
        except DataError as error:
            logger.warning("IMDb from the %s failed: %s", origin, error)
            tried.append(f"the {origin}: {error}")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    raise DownloadError(
        "IMDb could not be had. Tried " + "; ".join(tried) + ". Connect to the network, or set UNROLL_MIRROR to a "
        "folder that holds imdb/; --set data.source=sample needs neither."
    )


def _places(mirror: Path | None) -> list[tuple[str, str]]:
    places = [("network", HUB_NAME)]
    if mirror is not None and (mirror / "imdb").is_dir():
        return [("mirror", str(mirror / "imdb")), *places]
    if mirror is not None:
        logger.warning("The mirror %s holds no folder imdb; trying the network.", mirror)
    return places


def _load(origin: str, name: str, scratch: Path, backoff: Backoff) -> dict[str, LoadedSplit]:
    if origin == "network" and not is_offline():
        reach(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), backoff)

    def load() -> dict[str, LoadedSplit]:
        shutil.rmtree(scratch, ignore_errors=True)
        return load_splits(name, ("text", "label"), scratch)

    return with_retries(load, f"IMDb from the {origin}", backoff)


def _write(splits: dict[str, LoadedSplit], folder: Path) -> dict[str, Any]:
    files = {}
    for split, expected in EXPECTED.items():
        if split not in splits:
            raise DataError(f"it has no {split} split, only {', '.join(splits) or 'nothing'}")
        loaded = splits[split]
        table = parquet_table(loaded.path, f"the {split} split", loaded.class_names)
        require_columns(table.where, table.columns, "text", "label")
        found = write_table(table, "text", "label", LABELS, folder / f"{split}.parquet")
        if found != expected:
            raise DataError(
                f"the {split} split has {found.rows:,} rows with {found.text_bytes:,} bytes of text (SHA-256 "
                f"{found.sha256[:12]}…); expected {expected.rows:,} rows, {expected.text_bytes:,} bytes "
                f"({expected.sha256[:12]}…): it is damaged, or another edition"
            )
        files[split] = asdict(found)
    return files
