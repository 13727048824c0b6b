"""The corpora that rows work on: IMDb and The Mysterious Island from the mirror, or those made here.

Downloaded and encoded by the stages that runs use, once for all rows of a run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.events import note
from benchmarks.plan import Plan
from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.presets import load_config
from unroll.stages import download, encode
from unroll.store import Artifact

SAMPLE_REVIEWS = 6_000
SAMPLE_CHARACTERS = 500_000
QUICK_REVIEWS = 600
QUICK_CHARACTERS = 40_000


@dataclass(frozen=True)
class Corpus:
    """A corpus and how it was made."""

    config: AnyConfig
    folder: Path
    """The corpus itself, see `unroll.data.corpora`."""
    encoded_folder: Path
    description: str

    def open_encoded(self) -> EncodedCorpus:
        """The corpus as token ids."""
        return EncodedCorpus.open(self.encoded_folder)


def book_config(project: str, plan: Plan, *overrides: str, preset: str = "book") -> AnyConfig:
    """The chapter's settings (the preset `book`, or another one of them), on the corpus of the plan."""
    own = [f"seed={plan.seed}", "training.device=cpu"]
    if not plan.real_corpora:
        sizes = (QUICK_REVIEWS, QUICK_CHARACTERS) if plan.quick else (SAMPLE_REVIEWS, SAMPLE_CHARACTERS)
        size = sizes[0] if project == "sentiment" else sizes[1]
        own += ["data.source=sample", f"data.sample_size={size}"]
    return load_config(project, preset, [*own, *overrides])


def book_corpus(project: str, plan: Plan, encoded: bool = True) -> Corpus:
    """The corpus of the plan; made on first use, then found in the work folder."""
    config = book_config(project, plan)
    corpus = Corpus(
        config,
        plan.folder / f"{project}-corpus",
        plan.folder / f"{project}-encoded",
        _describe(config),
    )
    if not corpus.folder.exists():
        note(f"fetching {corpus.description}")
        _publish(corpus.folder, lambda folder: download(config, folder))
    if encoded and not corpus.encoded_folder.exists():
        note(f"encoding {corpus.description}")
        artifact = Artifact("download", "", str(corpus.folder), "")
        _publish(corpus.encoded_folder, lambda folder: encode(config, artifact, folder))
    return corpus


def _describe(config: AnyConfig) -> str:
    names = {"imdb": "IMDb", "gutenberg": "The Mysterious Island"}
    if config.data.source in names:
        return names[config.data.source]
    kind = "reviews" if config.project == "sentiment" else "characters"
    return f"{config.data.sample_size:,} made {kind}"


def _publish(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder that is there only when it is whole: a row that failed leaves nothing for the next one."""
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    fill(unfinished)
    unfinished.rename(folder)
