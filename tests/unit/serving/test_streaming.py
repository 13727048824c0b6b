"""Texts that share their steps are the texts that each would be alone."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from unroll.generation import SamplingSettings, TextGenerator
from unroll.serving.overload import Overloaded
from unroll.serving.streaming import MadeCharacter, TextEngine, TextStream, model_probabilities


class Reader:
    """Reads a stream from the test's thread."""

    def __init__(self, engine: TextEngine, prompt: str = "The ", **settings: Any) -> None:
        self.news = threading.Event()
        self.stream: TextStream = engine.open(prompt, SamplingSettings(**settings), self.news.set)

    def all(self) -> list[MadeCharacter]:
        made = []
        while True:
            assert self.news.wait(20)
            self.news.clear()
            has_ended = self.stream.has_ended
            made += self.stream.take()
            if has_ended:
                return made

    def text(self) -> str:
        return "".join(each.character for each in self.all())


@pytest.fixture
def engine(generator: TextGenerator) -> TextEngine:
    return TextEngine(generator, max_streams=40)


def until_idle(engine: TextEngine) -> None:
    deadline = time.monotonic() + 20
    while engine.num_streams:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_many_texts_at_a_time_are_those_that_each_would_be_alone(engine: TextEngine, generator: TextGenerator) -> None:
    wanted = [
        {
            "prompt": f"The {'ab'[number % 2] * number}",
            "seed": number,
            "length": 10 + 7 * number,
            "temperature": number / 9,
        }
        for number in range(12)
    ]
    readers = [Reader(engine, **each) for each in wanted]
    for each, reader in zip(wanted, readers, strict=True):
        prompt = each.pop("prompt")
        expected = "".join(generator.stream(prompt, SamplingSettings(**each)))  # type: ignore[arg-type]
        assert reader.text() == expected
        assert reader.stream.reason == "length"
    until_idle(engine)


def test_probabilities_are_the_models_own(engine: TextEngine, generator: TextGenerator) -> None:
    made = Reader(engine, length=1, temperature=0).all()[0]
    logits, _ = generator.read(["The "])
    probs = model_probabilities(logits.astype(np.float64))[0]
    assert probs[:2].tolist() == [0, 0]
    assert made.probability == pytest.approx(probs.max())
    assert made.likeliest[0] == (made.character, made.probability)
    assert np.diff([probability for _, probability in made.likeliest]).max() <= 0


def test_a_stop_ends_a_text_and_no_other(engine: TextEngine) -> None:
    long, short = Reader(engine, length=60), Reader(engine, length=60, stop=("e", "xyz"))
    text = short.text()
    assert text.endswith("e") or len(text) == 60
    assert "e" not in text[:-1]
    assert len(long.text()) == 60


def test_a_closed_text_ends_and_leaves_room(engine: TextEngine) -> None:
    reader = Reader(engine, length=1_000_000)
    assert reader.news.wait(20)
    reader.stream.close()
    until_idle(engine)
    assert reader.stream.num_made < 1_000_000


def test_more_than_there_is_room_for_are_refused(generator: TextGenerator) -> None:
    engine = TextEngine(generator, max_streams=2)
    readers = [Reader(engine, length=100_000) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 texts are being made, at most 2 may"):
        Reader(engine)
    for reader in readers:
        reader.stream.close()
    until_idle(engine)
    assert len(Reader(engine, length=5).text()) == 5


def test_a_failing_step_ends_its_texts_with_the_reason_and_no_later_ones(
    engine: TextEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(engine._stepping_model, "begin", fail)
        reader = Reader(engine, length=5)
        reader.all()
        assert isinstance(reader.stream.error, RuntimeError)
    until_idle(engine)
    assert len(Reader(engine, length=5).text()) == 5
