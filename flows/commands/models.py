"""``unroll models``: what is registered, what was decided, and a person's own decisions."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from flows.commands.registry import open_registry
from flows.embedded import workplace
from unroll.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from tasks.promotion import Promotions
    from tasks.registry import ModelRegistry, Version
    from unroll.evaluation.decisions import Entry, Standing

SCORES = (("unroll.test/accuracy", "accuracy"), ("unroll.test/bits_per_char", "bits per char"))
WIDEST = 100
HISTORY_HEAD = f"{'ENTRY':>5}  {'WHEN':16}  {'VERDICT':11}  {'VERSION':>7}  {'CHAMPION':12}  BY"


def list_versions(name: str | None) -> None:
    """Print a line for every version, newest first, below the name of its model."""
    registry = open_registry()
    names = _names(registry)
    for each in [_only_name(registry, name)] if name else names:
        print(each)
        for version in registry.versions(each):
            print(f"  {_line(version)}".rstrip())


def show_version(spec: str) -> None:
    """Print a version's model card, and where it stands; a bare model name means its champion."""
    registry = open_registry()
    name, version_spec = _parse(registry, spec)
    version = registry.resolve(name, version_spec)
    print(f"{version.name} version {version.number} {' '.join(version.aliases)}".rstrip())
    card = registry.card(version)
    if card is None:
        decision = version.tags.get("unroll.decision", "undecided")
        reason = version.tags.get("unroll.decision_reason", "")
        print(textwrap.fill(f"{decision}: {reason}" if reason else decision, 80, break_long_words=False))
    else:
        _print_markdown(card)
    facts = {
        key.removeprefix("unroll."): value
        for key, value in sorted(version.tags.items())
        if not key.startswith("unroll.decision")
    }
    facts |= {"registered": _date(version.created), "MLflow run": version.run_id}
    facts["load with"] = f'mlflow.pyfunc.load_model("{version.uri}")'
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"  {key:{width}}  {value}")


def show_history(name: str | None, limit: int | None, as_json: bool) -> None:
    """Print a model's ledger, newest first: a line for each decision with its reason below, or a JSON object a line."""
    from unroll.evaluation.decisions import stand

    registry = open_registry()
    name = _only_name(registry, name)
    entries = _promotions(registry, name).entries()
    standing = stand(entries)
    shown = list(reversed(entries))[:limit]
    if as_json:
        for entry in shown:
            print(json.dumps({**asdict(entry), "overtaken": entry.number in standing.overtaken}, ensure_ascii=False))
        return
    champion = registry.champion(name)
    print(f"{name}: {'no champion' if champion is None else f'version {champion.number} is champion'}")
    if not entries:
        print("nothing is entered in its ledger yet: the next run, promotion or roll-back begins it")
        return
    if standing.champion != (champion and champion.number):
        print(f"by the ledger, version {standing.champion} is champion: the alias was moved, or the version deleted")
    print(HISTORY_HEAD)
    for entry in shown:
        print("\n".join(_history_lines(entry, standing)))


def promote_version(spec: str, reason: str) -> None:
    """Make a version champion because a person says so, and print what changed."""
    reason = _require_reason(reason)
    registry = open_registry()
    name, version_spec = _parse(registry, spec)
    if version_spec is None:
        raise ConfigError(f"{spec} names no version; expected {name}/NUMBER or {name}@challenger.")
    version = registry.resolve(name, version_spec)
    entry = _promotions(registry, name).promote(version, reason)
    if entry is None:
        print(f"{name}: version {version.number} is champion already; nothing was changed")
        return
    print(f"{name}: version {entry.version} is champion ({_was(entry)}); entry {entry.number} of its ledger")
    if entry.champion is not None:
        print(f"to take this back: unroll models rollback {name}")


def roll_back(name: str | None, to: str | None, reason: str) -> None:
    """Make the earlier champion champion again, and print what changed."""
    reason = _require_reason(reason)
    registry = open_registry()
    name = _only_name(registry, name)
    entry = _promotions(registry, name).roll_back(to, reason)
    print(f"{name}: version {entry.version} is champion again ({_was(entry)}); entry {entry.number} of its ledger")
    print(f"to take this back: unroll models promote {name}/{entry.champion} --reason WHY")


def _promotions(registry: ModelRegistry, name: str) -> Promotions:
    from tasks.promotion import Promotions

    return Promotions(registry, name, workplace().store)


def _names(registry: ModelRegistry) -> list[str]:
    names = registry.names()
    if not names:
        raise RegistryError(f"No model is registered at {registry.tracking_uri}; train one with 'unroll run'.")
    return names


def _only_name(registry: ModelRegistry, name: str | None) -> str:
    """The registered name that a user means: in full, as the project, or not at all where there is but one."""
    names = _names(registry)
    if name is None:
        if len(names) > 1:
            raise ConfigError(f"There are several models: {', '.join(names)}; name one.")
        return names[0]
    for each in (name, f"unroll-{name}"):
        if each in names:
            return each
    raise RegistryError(f"No model {name!r} is registered at {registry.tracking_uri}; there: {', '.join(names)}.")


def _parse(registry: ModelRegistry, spec: str) -> tuple[str, str | None]:
    """``name/3``, ``name@alias``, ``name``, or ``3`` where there is but one model: the name, and the version if any."""
    name, _, version = spec.replace("@", "/").partition("/")
    if not version and name.isdigit():
        return _only_name(registry, None), name
    return _only_name(registry, name or None), version or None


def _require_reason(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("--reason is empty; expected a few words for those who read the history.")
    return reason.strip()


def _was(entry: Entry) -> str:
    return "there was none" if entry.champion is None else f"was version {entry.champion}"


def _history_lines(entry: Entry, standing: Standing) -> Iterator[str]:
    verdict = "overtaken" if entry.number in standing.overtaken else entry.verdict
    moved = entry.moves and verdict != "overtaken"
    champion = f"{entry.champion or 'none'} -> {entry.version}" if moved else entry.champion or "none"
    by = f"{entry.asked_by} (gate)" if entry.judge == "gate" else entry.asked_by
    yield (f"{entry.number:>5}  {_date(entry.time):16}  {verdict:11}  {entry.version:>7}  {champion:12}  {by}")
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    yield from textwrap.wrap(" ".join(entry.reason.split()), width, initial_indent=" " * 7, subsequent_indent=" " * 7)


def _print_markdown(text: str) -> None:
    """As it is where a program reads it; drawn on a terminal."""
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def _line(version: Version) -> str:
    aliases, decision = ", ".join(version.aliases), version.tags.get("unroll.decision", "")
    return f"{version.number:>4}  {decision:9} {aliases:11} {_score(version.tags):22} {_date(version.created)}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _score(tags: Mapping[str, str]) -> str:
    return next((f"{label} {float(tags[key]):.4f}" for key, label in SCORES if key in tags), "")
