"""Making many texts at a time, each with settings of its own: all streams of a model share every step.

One thread steps the model for all texts that are being made. Between two steps texts come in, end, or go because
nobody reads them any more. A step of many costs little more than a step of one, and one busy thread leaves the event
loop more of Python than a thread for each text would.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unroll.data.vocabulary import Vocabulary
from unroll.generation import Array, Noise, SamplingSettings, TextGenerator, draw
from unroll.models.stepping import Stepper, SteppingModel
from unroll.serving.overload import Overloaded
from unroll.threads import one_blas_thread

logger = logging.getLogger(__name__)

NUM_LIKELIEST = 4


@dataclass(frozen=True)
class MadeCharacter:
    """A character, and what the model thought before it was drawn."""

    character: str
    probability: float
    """By the model itself: before temperature and cuts."""
    likeliest: tuple[tuple[str, float], ...]
    """The likeliest characters there and their probabilities, highest first."""


class TextStream:
    """One text in the making. The engine writes it, one reader takes from it."""

    def __init__(self, prompt: str, settings: SamplingSettings, notify: Callable[[], object]) -> None:
        """notify: is called, from another thread, when there is something to take after there was nothing."""
        self.prompt = prompt
        self.settings = settings
        self.noise: Noise | None = None
        self.num_made = 0
        self.tail = ""
        self.has_ended = False
        """Nothing more is made; what was made may still be there to take."""
        self.reason: str | None = None
        """Why it ended: `length` or `stop`; None where it failed or was closed."""
        self.error: Exception | None = None
        self.seconds = 0.0
        """From its first step to its last."""
        self._notify = notify
        self._made: list[MadeCharacter] = []
        self._lock = threading.Lock()
        self._started = time.perf_counter()

    def take(self) -> list[MadeCharacter]:
        """What was made since the last call."""
        with self._lock:
            made, self._made = self._made, []
        return made

    def close(self) -> None:
        """Nobody reads any more: make no more."""
        self.has_ended = True

    def start(self, vocab_size: int) -> None:
        """For the engine: the first step is about to be taken."""
        self.noise = Noise(self.settings.seed, [0], vocab_size)
        self._started = time.perf_counter()

    def append(self, made: MadeCharacter) -> None:
        """For the engine: one more character."""
        with self._lock:
            is_news = not self._made
            self._made.append(made)
        self.num_made += 1
        stops = [stop for stop in self.settings.stop if stop]
        if stops:
            self.tail = (self.tail + made.character)[-max(map(len, stops)) :]
        if stops and self.tail.endswith(tuple(stops)):
            self.end("stop")
        elif self.num_made >= self.settings.length:
            self.end("length")
        elif is_news:
            self._notify()

    def end(self, reason: str | None, error: Exception | None = None) -> None:
        """For the engine: nothing more comes."""
        self.seconds = time.perf_counter() - self._started
        self.reason, self.error = reason, error
        self.has_ended = True
        self._notify()


class TextEngine:
    """A language model and the thread that makes texts with it. The thread ends with the engine's last text."""

    def __init__(self, generator: TextGenerator, max_streams: int) -> None:
        """max_streams: most texts in the making and waiting, together."""
        self.generator = generator
        self.max_streams = max_streams
        self._tokens = generator.encoder.vocabulary.tokens
        self._stepping_model = SteppingModel(generator.model)
        self._newcomers: list[TextStream] = []
        self._num_streams = 0
        self._lock = threading.Lock()
        self._is_running = False

    def open(self, prompt: str, settings: SamplingSettings, notify: Callable[[], object]) -> TextStream:
        """Begin a text. Raises Overloaded where there are ``max_streams`` already."""
        stream = TextStream(prompt, settings, notify)
        if settings.length == 0:
            stream.end("length")
            return stream
        with self._lock:
            if self._num_streams >= self.max_streams:
                raise Overloaded(
                    f"{self._num_streams} texts are being made, at most {self.max_streams} may.", "streams"
                )
            self._num_streams += 1
            self._newcomers.append(stream)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="generation", daemon=True).start()
        return stream

    @property
    def num_streams(self) -> int:
        """Texts in the making and waiting."""
        return self._num_streams

    def unknown_characters(self, text: str) -> list[str]:
        """Characters of a text that the model never saw, each once; it reads them as `<unk>`."""
        known = self.generator.encoder.vocabulary.ids_by_token
        return [character for character in dict.fromkeys(text) if character not in known]

    @torch.inference_mode()
    def _run(self) -> None:
        streams: list[TextStream] = []
        logits: Array = np.empty((0, len(self._tokens)))
        stepper: Stepper | None = None
        while True:
            kept = [row for row, stream in enumerate(streams) if not stream.has_ended]
            with self._lock:
                newcomers, self._newcomers = self._newcomers, []
                self._num_streams -= len(streams) - len(kept)
                if not kept and not newcomers:
                    self._is_running = False
                    return
            try:
                if len(kept) < len(streams):
                    streams, logits = [streams[row] for row in kept], logits[kept]
                    if stepper is not None and kept:
                        stepper.keep(kept)
                for stream in newcomers:
                    logits, stepper = self._join(streams, logits, stepper, stream)
                token_ids = self._draw(streams, logits)
                assert stepper is not None  # there is a text, and it has joined
                with one_blas_thread():
                    logits = stepper.step(token_ids)
            except Exception as error:  # out of memory, say; the engine goes on with what comes next
                logger.exception("%d texts could not be made", len({*streams, *newcomers}))
                for stream in {*streams, *newcomers}:
                    stream.end(None, error)

    def _join(
        self, streams: list[TextStream], logits: Array, stepper: Stepper | None, stream: TextStream
    ) -> tuple[Array, Stepper]:
        """Read a newcomer's prompt and put it behind the others."""
        stream.start(len(self._tokens))
        own_logits, state = self.generator.read([stream.prompt])
        if streams:
            assert stepper is not None
            own_logits = np.concatenate([logits, own_logits])
            state = tuple(
                tuple(torch.cat(parts, dim=1) for parts in zip(*layers, strict=True))
                for layers in zip(stepper.state(), state, strict=True)
            )
        streams.append(stream)
        return own_logits, self._stepping_model.begin(state)

    def _draw(self, streams: list[TextStream], logits: Array) -> NDArray[np.int64]:
        """Append the next character of each text that goes on; returns what each row reads next, (B,)."""
        scores = logits.astype(np.float64)
        probs = model_probabilities(scores)
        likeliest = _likeliest(probs)
        token_ids = np.zeros(len(streams), np.int64)
        for row, stream in enumerate(streams):
            assert stream.noise is not None
            try:
                token_id = draw(scores[row : row + 1], stream.settings, stream.noise.at(stream.num_made, [0]))[0]
            except Exception as error:
                stream.end(None, error)
                continue
            token_ids[row] = token_id
            if not stream.has_ended:
                ranked = tuple((self._tokens[other], float(probs[row, other])) for other in likeliest[row])
                stream.append(MadeCharacter(self._tokens[token_id], float(probs[row, token_id]), ranked))
        return token_ids


def model_probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the model itself holds each next character for, (B, V); `<pad>` and `<unk>`, never made, have none."""
    logits = logits.copy()
    logits[:, [Vocabulary.PAD_ID, Vocabulary.UNK_ID]] = -np.inf
    with np.errstate(invalid="ignore"):  # a damaged model's NaN is told of when a character is drawn
        probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _likeliest(probs: NDArray[np.float64]) -> NDArray[np.int64]:
    """(B, NUM_LIKELIEST or fewer) ids, the likeliest first."""
    number = min(NUM_LIKELIEST, probs.shape[1] - 2)
    return np.argsort(-probs, axis=1, kind="stable")[:, :number]
