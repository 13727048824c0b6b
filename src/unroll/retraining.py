"""What a retraining is about: what differs from what the champion was made from, and the account of what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from unroll.config import AnyConfig, flatten
from unroll.data.sources import source_fingerprint
from unroll.errors import UnrollError
from unroll.stages import UNREAD_BY_TRAINING, mirror_folder
from unroll.store import source_digests

Kind = Literal["data", "code", "setting", "library"]
Ending = Literal["promoted", "held", "rejected", "skipped", "failed"]

CODE_OF_A_RUN = ("unroll.stages", "unroll.evaluation.gate", "unroll.data.validation", "unroll.training.fit")
"""The modules that a run's code starts from; all that they import belongs to it."""
JUDGES = ("registry.", "evaluation.")
"""Sections that decide how a model is judged, not what it is."""
TOLD_BY_DIGEST = ("data.source", "data.test_source")
"""Files are known by their digests, wherever they lie."""


@dataclass(frozen=True)
class Origin:
    """What a model was made from, or would be made from now. What nobody recorded is None or empty."""

    settings: Mapping[str, str]
    """Flat names and values as text: what MLflow keeps."""
    data: str | None = None
    """SHA-256 over the digests of the user's files, or the public corpus's name."""
    code: str | None = None
    """SHA-256 over `modules`."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the source of each `unroll` module that a run goes through."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    """Versions of what a run rests on, and the commit."""


@dataclass(frozen=True)
class Change:
    """One thing that differs. None is what was not recorded, or is not there."""

    kind: Kind
    name: str
    before: str | None
    now: str | None
    matters: bool
    """Whether it is a reason to train: it can change the weights."""


@dataclass(frozen=True)
class Champion:
    """The version to be beaten, as the registry and its run tell of it."""

    name: str
    version: str
    run_id: str
    weights_sha256: str = ""
    test_digest: str = ""
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """Value, low and high by name, as measured when it was registered."""
    page: str | None = None
    """Its page in MLflow, where there is one."""


@dataclass(frozen=True)
class Curve:
    """One metric over training, for each of some models: pairs of step (optimizer updates) and value."""

    metric: str
    lines: dict[str, list[list[float]]]


@dataclass(frozen=True)
class Cost:
    """What a retraining took. Joules are None where no counter could be read."""

    wall_seconds: float
    device_seconds: float
    """Of training in this run; 0 where the model was found trained."""
    device: str
    processor_joules: float | None = None
    gpu_joules: float | None = None


@dataclass
class Account:
    """One retraining from what was asked for to what came of it; plain values, filled in on the way."""

    project: str
    preset: str
    settings: list[str]
    asked: str
    """Why it was asked for."""
    forced: bool = False
    decision: Ending = "failed"
    reason: str = ""
    would_promote: bool = False
    """Held only because ``registry.promote`` is false."""
    is_champions_model: bool = False
    """The weights that came out are the champion's, to the bit."""
    same_items: bool = True
    """The champion was evaluated on the very test items."""
    champion: Champion | None = None
    changes: list[Change] | None = None
    """None where it never came to the comparison, or there was no champion."""
    summary: dict[str, Any] | None = None
    """That of the run, as `unroll run --summary` writes it."""
    comparison: dict[str, Any] | None = None
    """The gate's comparison with the champion (`unroll.evaluation.comparison.Comparison`)."""
    curves: list[Curve] = field(default_factory=list)
    cost: Cost | None = None
    links: dict[str, str] = field(default_factory=dict)
    """Pages by what they show."""
    plots: str | None = None
    """Folder with the evaluation's plots, on the machine that evaluated."""

    @property
    def is_held_back(self) -> bool:
        """Whether a new model did not pass the gate. One that is the champion's own has nothing to pass."""
        return self.decision in ("held", "rejected") and not (self.would_promote or self.is_champions_model)

    @property
    def calls_for_training(self) -> bool:
        """Whether there is no champion, something changed that matters, or somebody insists."""
        changed = self.changes is None or any(change.matters for change in self.changes)
        return self.champion is None or changed or self.forced

    def fail(self, error: BaseException) -> None:
        """What ended it."""
        self.decision = "failed"
        self.reason = str(error).strip() or type(error).__name__
        if not isinstance(error, UnrollError):
            self.reason = f"{type(error).__name__}: {self.reason}"

    def plain(self) -> dict[str, Any]:
        """Values for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Account:
        """What `plain` gave."""
        known = {each.name: plain[each.name] for each in fields(cls) if each.name in plain}
        known["champion"] = known["champion"] and Champion(**known["champion"])
        known["changes"] = known["changes"] and [Change(**change) for change in known["changes"]]
        known["curves"] = [Curve(**curve) for curve in known["curves"]]
        known["cost"] = known["cost"] and Cost(**known["cost"])
        return cls(**known)


class RetrainingFailed(UnrollError):  # noqa: N818 - tells what happened, and carries the account of it
    """A retraining ended in an error that a user can mend; its message and exit code are that error's."""

    def __init__(self, account: Account, error: UnrollError) -> None:
        super().__init__(str(error))
        self.account = account
        self.exit_code = error.exit_code


def origin_now(config: AnyConfig, libraries: Mapping[str, str]) -> Origin:
    """What a run of these settings would be made from. Raises DataError where a file of the user's is missing."""
    modules = source_digests(CODE_OF_A_RUN)
    return Origin(
        settings={name: str(value) for name, value in flatten(config.model_dump(mode="json")).items()},
        data=digest(source_fingerprint(config.data, mirror_folder())),
        code=digest(modules),
        modules=modules,
        libraries=libraries,
    )


def digest(parts: Any) -> str:
    """SHA-256 (hex) of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def differences(before: Origin, now: Origin) -> list[Change]:
    """What differs: data, then code, settings, libraries; what nobody recorded counts as changed."""
    changes = []
    if before.data is None or before.data != now.data:
        changes.append(Change("data", _source(now), before.data, now.data, True))
    if before.code is None or before.code != now.code:
        changes += _modules(before, now)
    changes += [
        Change("setting", name, old, new, _decides_the_model(name))
        for name, old, new in _unequal(before.settings, now.settings)
    ]
    changes += [
        Change("library", name, old, new, False) for name, old, new in _unequal(before.libraries, now.libraries)
    ]
    return changes


def in_words(changes: Sequence[Change]) -> str:
    """What changed that matters, in one line: for a log, a run's name, a terminal."""
    matter = [change for change in changes if change.matters]
    modules = [change for change in matter if change.kind == "code"]
    words = ["the data" for change in matter if change.kind == "data"]
    words += [f"the code ({len(modules)} {'module' if len(modules) == 1 else 'modules'})"] if modules else []
    words += [f"{each.name} ({each.before} to {each.now})" for each in matter if each.kind == "setting"]
    return ", ".join(words) or "nothing"


def _source(origin: Origin) -> str:
    return origin.settings.get("data.source", "corpus")


def _modules(before: Origin, now: Origin) -> list[Change]:
    if not before.modules:
        return [Change("code", "unroll", before.code, now.code, True)]
    return [Change("code", name, old, new, True) for name, old, new in _unequal(before.modules, now.modules)]


def _unequal(before: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    names = sorted({*before, *now})
    return [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def _decides_the_model(setting: str) -> bool:
    return not setting.startswith(JUDGES) and setting not in (*TOLD_BY_DIGEST, *UNREAD_BY_TRAINING)
