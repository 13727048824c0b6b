"""The watcher without a server: one event for each change, told before it is noted, and nothing for what stayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks import events, watch
from tasks.watch import Finding, Watched, look
from unroll.errors import ConfigError, DataError, UnrollError


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class World:
    """A server's variables and events, and the files of a user."""

    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[str, str, Any]] = field(default_factory=list)
    """Event, reason and id, as they were sent."""
    dies_when_noting: bool = False

    def get(self, name: str) -> Any:
        return self.variables.get(name)

    def set(self, name: str, value: Any, overwrite: bool = False) -> None:
        if self.dies_when_noting:
            raise Killed
        assert overwrite
        self.variables[name] = json.loads(json.dumps(value))

    def tell(self, event: str, project: str, preset: str, settings: Any, reason: str, event_id: Any) -> None:
        assert (project, preset) == ("sentiment", str(self.preset))
        assert list(settings) == list(self.watched.settings)
        self.told.append((event, reason, event_id))

    @property
    def preset(self) -> Path:
        return self.folder / "mine.yaml"

    @property
    def corpus(self) -> Path:
        return self.folder / "reviews.csv"

    @property
    def watched(self) -> Watched:
        return Watched(preset=str(self.preset), settings=(f"data.source={self.corpus}",))

    def look(self) -> Finding:
        found: Finding = look.fn(self.watched)
        return found

    def events(self) -> list[str]:
        """What a server holds: one event of an id."""
        return [event for event, _ in {event_id: (event, reason) for event, reason, event_id in self.told}.values()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch)


def make_world(folder: Path, patch: pytest.MonkeyPatch) -> World:
    made = World(folder)
    patch.setattr(watch, "Variable", made)
    patch.setattr(events, "tell", made.tell)
    made.corpus.write_text("text,label\ngood,1\n")
    made.preset.write_text("training:\n  epochs: 2\n")
    return made


def test_the_first_look_notes_and_tells_nothing(world: World) -> None:
    assert world.look().in_words().endswith("first look, noted")
    assert world.told == []
    assert world.look().in_words().endswith("unchanged")
    assert world.told == []


def test_a_changed_corpus_and_a_changed_preset_are_told_once_and_named(world: World) -> None:
    world.look()
    world.corpus.write_text("text,label\nbad,0\n")
    assert "data.source has the digest .csv" in world.look().in_words()
    assert world.events() == [events.CORPUS_CHANGED]
    world.preset.write_text("training:\n  epochs: 4\nseed: 7\n")
    assert "seed is 7, was the default" in world.look().in_words()
    assert "training.epochs is 4, was 2" in world.told[-1][1]
    assert world.events() == [events.CORPUS_CHANGED, events.PRESET_CHANGED]
    world.look()
    assert len(world.told) == 2


def test_a_comment_in_a_preset_or_a_touched_file_is_no_change(world: World) -> None:
    world.look()
    world.preset.write_text("# two passes\ntraining: {epochs: 2}\n")
    world.corpus.touch()
    assert world.look().changes == ()


def test_another_source_is_a_change_of_the_preset_alone(world: World) -> None:
    watched = Watched(preset=str(world.preset))
    look.fn(watched)
    world.preset.write_text(f"training: {{epochs: 2}}\ndata: {{source: {world.corpus}}}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "tell", lambda event, *rest: world.told.append((event, rest[-2], rest[-1])))
        found = look.fn(watched)
    assert world.events() == [events.PRESET_CHANGED]
    assert "data.source is" in found.in_words()


def test_killed_before_it_noted_a_change_it_tells_the_same_event_again(world: World) -> None:
    world.look()
    world.corpus.write_text("text,label\nbad,0\n")
    world.dies_when_noting = True
    for _ in range(2):
        with suppress(Killed):
            world.look()
    world.dies_when_noting = False
    world.look()
    world.look()
    assert len(world.told) == 3
    assert world.events() == [events.CORPUS_CHANGED]


def test_an_event_that_did_not_arrive_is_not_noted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.look()
    world.corpus.write_text("text,label\nbad,0\n")

    def fail(*_: Any) -> None:
        raise UnrollError("it did not arrive")

    with monkeypatch.context() as patch:
        patch.setattr(events, "tell", fail)
        with pytest.raises(UnrollError, match="did not arrive"):
            world.look()
    world.look()
    assert world.events() == [events.CORPUS_CHANGED]


@given(states=st.lists(st.integers(0, 2), min_size=1, max_size=8), kills=st.sets(st.integers(0, 7)))
def test_there_are_as_many_events_as_changes_seen_also_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, states: list[int], kills: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = make_world(tmp_path_factory.mktemp("world"), patch)
        world.look()
        seen, changes = -1, 0
        for number, state in enumerate(states):
            world.corpus.write_text(f"text,label\n{state},1\n")
            world.dies_when_noting = number in kills
            with suppress(Killed):
                world.look()
            world.dies_when_noting = False
            world.look()
            changes += state != seen
            seen = state
        assert len(world.events()) == changes


@pytest.mark.parametrize(
    ("broken", "error", "named"),
    [
        (lambda world: world.corpus.unlink(), DataError, "reviews.csv"),
        (lambda world: world.preset.unlink(), ConfigError, "mine.yaml"),
        (lambda world: world.preset.write_text("trainig: {}\n"), ConfigError, "did you mean"),
    ],
)
def test_what_cannot_be_looked_at_is_an_error_that_names_it_and_the_note_stays(
    world: World, broken: Callable[[World], Any], error: type[Exception], named: str
) -> None:
    world.look()
    before = dict(world.variables)
    broken(world)
    with pytest.raises(error, match=named):
        world.look()
    assert world.variables == before
    assert world.told == []


def test_a_damaged_note_counts_as_none(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.look()
    world.variables = {name: {"format": 99} for name in world.variables}
    assert world.look().is_first
    assert "cannot be read" in caplog.text


def test_notes_are_told_apart_and_fit_into_a_variable(world: World) -> None:
    others = [Watched(), Watched(project="language_model"), Watched(preset="fast"), Watched(settings=("seed=2",))]
    names = {watched.variable for watched in others}
    assert len(names) == 4
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)
    watched = Watched(settings=tuple(f"evaluation.sample_prompt={'x' * 2_000}" for _ in range(3)))
    look.fn(watched)
    assert len(json.dumps(world.variables[watched.variable])) < 5_000


def test_a_project_that_is_none_is_refused_by_the_form() -> None:
    with pytest.raises(ValidationError, match="sentiment"):
        Watched.model_validate({"project": "tagging"})
