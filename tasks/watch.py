"""Noticing that a corpus or a preset is not what it was when it was last looked at.

What was last seen is kept in Prefect variables, not in the working folder: every worker of a server shares them,
whatever machine it is on; they are backed up and restored together with the deployments and automations that the
events start; and on the private server they lie below `.unroll`, as all that a command keeps.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.variables import Variable
from pydantic import Field

from tasks import events
from unroll.config import ProjectName, Section, config_digest
from unroll.data.sources import source_fingerprint
from unroll.errors import DataError
from unroll.presets import load_config, make_config, setting_differences
from unroll.stages import mirror_folder

logger = logging.getLogger("unroll.watch")

FORMAT = 1
LONGEST_VALUE = 4_900
"""Characters of a note; a variable of Prefect's holds 5,000."""
LONGEST_TITLE = 500
MOST_NAMED = 5
"""Settings named in a reason."""


class Watched(Section):
    """A preset with the settings that a deployment trains it with, and the corpus that these name."""

    project: ProjectName = Field("sentiment")
    """Which project."""
    preset: str = "sample"
    """A preset's name, or the path of a YAML file that the worker can read."""
    settings: tuple[str, ...] = ()
    """Overrides, each `section.key=value`, such as `data.source=reviews.csv`."""

    @property
    def title(self) -> str:
        """For people."""
        return " ".join([self.project.replace("_", " "), self.preset, *self.settings])

    @property
    def variable(self) -> str:
        """The Prefect variable that keeps what was last seen: lower-case letters, digits and underscores."""
        digest = hashlib.sha256(json.dumps([self.preset, *self.settings]).encode()).hexdigest()
        return f"unroll_watched_{self.project}_{digest[:16]}"


@dataclass(frozen=True)
class Sight:
    """What was there at one look."""

    source: str
    """Which corpus: a digest of data.source, data.test_source and data.ebook, not of what is there."""
    corpus: dict[str, str]
    """Digests of the user's files, names of public or made corpora; see `source_fingerprint`."""
    preset: str
    """Digest of the preset with the settings over it."""
    settings: list[str]
    """In what the preset differs from the defaults, so that a change can be named."""

    @classmethod
    def of(cls, watched: Watched) -> Sight:
        """Look now. Raises ConfigError for the preset, DataError for files that are missing or cannot be read."""
        config = load_config(watched.project, watched.preset, watched.settings)
        try:
            corpus = source_fingerprint(config.data, mirror_folder())
        except OSError as error:
            raise DataError(
                f"{error.filename} cannot be read ({error.strerror}); check data.source, data.test_source and the "
                "worker's permissions."
            ) from error
        named = [getattr(config.data, name, None) for name in ("source", "test_source", "ebook")]
        settings = setting_differences(make_config(config.project, {}), config)
        return cls(hashlib.sha256(json.dumps(named).encode()).hexdigest(), corpus, config_digest(config), settings)

    def corpus_change(self, before: Sight) -> str | None:
        """How the corpus changed, in words. One of another name or path is another preset's, not a changed one."""
        if self.corpus == before.corpus or self.source != before.source:
            return None
        changed = [name for name, digest in self.corpus.items() if before.corpus.get(name) != digest]
        return "the corpus changed: " + ", ".join(
            f"data.{name} has the digest {_short(self.corpus[name])}, had {_short(before.corpus.get(name, 'none'))}"
            for name in changed
        )

    def preset_change(self, before: Sight) -> str | None:
        """How the preset changed, in words."""
        if self.preset == before.preset:
            return None
        now, then = (dict(setting.split("=", 1) for setting in sight.settings) for sight in (self, before))
        changed = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
        words = [f"{name} is {now.get(name, 'the default')}, was {then.get(name, 'the default')}" for name in changed]
        more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
        return "the preset changed: " + (
            ", ".join(words[:MOST_NAMED]) + more or "its defaults are those of another version of Unroll"
        )


@dataclass(frozen=True)
class Finding:
    """What one look found."""

    title: str
    changes: tuple[str, ...]
    is_first: bool

    def in_words(self) -> str:
        """A few words, without the title."""
        return "first look, noted" if self.is_first else "; ".join(self.changes) or "unchanged"


@task(name="look", task_run_name="look at {watched.title}", persist_result=False, cache_policy=NO_CACHE)
def look(watched: Watched) -> Finding:
    """Compare what is there with what was there, emit an event for each change, then note what is there.

    In this order: a look that is killed in between tells its events again, and the server keeps but one of an id. The
    first look at something notes it and tells nothing. Raises ConfigError, DataError; UnrollError where an event does
    not arrive.
    """
    sight, note = Sight.of(watched), _read_note(watched)
    if note is None:
        _write_note(watched, sight, 0)
        return Finding(watched.title, (), is_first=True)
    before, changes_before = note
    changes = {
        events.CORPUS_CHANGED: sight.corpus_change(before),
        events.PRESET_CHANGED: sight.preset_change(before),
    }
    told = {event: words for event, words in changes.items() if words is not None}
    for event, words in told.items():
        event_id = uuid5(NAMESPACE_URL, f"{watched.variable} {changes_before + 1} {event} {_digest_of(sight)}")
        events.tell(event, watched.project, watched.preset, watched.settings, words, event_id)
    if (sight.corpus, sight.preset) != (before.corpus, before.preset):
        _write_note(watched, sight, changes_before + bool(told))
    return Finding(watched.title, tuple(told.values()), is_first=False)


@task(name="report", task_run_name="report", persist_result=False, cache_policy=NO_CACHE)
def report_findings(rows: Sequence[tuple[str, str]]) -> None:
    """Leave what was found, by what was watched, as the flow run's report."""
    table = [{"watched": title, "found": found} for title, found in rows]
    create_table_artifact(table, key="watch-report", description="What the watcher found")


def _read_note(watched: Watched) -> tuple[Sight, int] | None:
    """What was last seen, and how many changes were told so far; None before the first look."""
    kept: Any = Variable.get(watched.variable)
    if kept is None:
        return None
    try:
        if kept["format"] != FORMAT:
            raise ValueError(f"format {kept['format']}, expected {FORMAT}")
        changes = int(kept["changes"])
        return Sight(str(kept["source"]), dict(kept["corpus"]), str(kept["preset"]), list(kept["settings"])), changes
    except (KeyError, TypeError, ValueError) as error:
        logger.warning("the Prefect variable %s cannot be read (%s); looked at as if anew", watched.variable, error)
        return None


def _write_note(watched: Watched, sight: Sight, changes: int) -> None:
    note = {"format": FORMAT, "title": watched.title[:LONGEST_TITLE], **asdict(sight), "changes": changes}
    if len(json.dumps(note)) > LONGEST_VALUE:
        note["settings"] = []  # they only name a change; the digest finds it
    Variable.set(watched.variable, note, overwrite=True)


def _short(digest: str) -> str:
    """``.csv 3fa9…`` as ``.csv 3fa9…`` of twelve digits."""
    kind, _, digits = digest.rpartition(" ")
    return f"{kind} {digits[:12]}".strip()


def _digest_of(sight: Sight) -> str:
    return hashlib.sha256(json.dumps([sight.corpus, sight.preset], sort_keys=True).encode()).hexdigest()
