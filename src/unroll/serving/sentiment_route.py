"""``POST /v1/sentiment``: texts in, labels and probabilities out, and on request what moved them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request
from starlette.responses import Response

from unroll.occlusion import Explanation, TooManyTokens, explain
from unroll.prediction import SentimentPredictor
from unroll.serving import schemas
from unroll.serving.batching import PredictionQueue, Probs
from unroll.serving.dropping import wait_while_connected
from unroll.serving.metrics import ServingMetrics
from unroll.serving.overload import Overloaded
from unroll.serving.problems import as_json, responses
from unroll.serving.slot import ModelSlot


class Explainer:
    """Explains one text at a time on a thread of its own: a long one takes a second, and predictions must not wait."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._num_waiting = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="explanation")

    def submit(self, predictor: SentimentPredictor, text: str) -> asyncio.Future[Explanation]:
        """A future of the explanation; cancelled before its turn, it costs nothing. Raises Overloaded."""
        if self._num_waiting >= self._max_waiting:
            raise Overloaded(f"{self._num_waiting} texts wait to be explained, at most that many may.", "explanations")
        self._num_waiting += 1
        answer = asyncio.wrap_future(self._executor.submit(explain, predictor, text))
        answer.add_done_callback(self._leave)
        return answer

    def close(self) -> None:
        """Drop what has not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self, answer: asyncio.Future[Explanation]) -> None:
        self._num_waiting -= 1


def sentiment_router(
    slot: ModelSlot[SentimentPredictor], queue: PredictionQueue, explainer: Explainer, metrics: ServingMetrics
) -> APIRouter:
    """The route, for one slot."""
    router = APIRouter()

    @router.post(
        "/v1/sentiment",
        summary="Classify texts",
        response_model=schemas.SentimentAnswer,
        responses=responses(400, 401, 408, 413, 415, 422, 503),
    )
    async def sentiment(body: schemas.SentimentRequest, request: Request) -> Response:
        """Class probabilities of each text, by the champion that was there when the request came."""
        served = slot.get()
        not_explained = "One text at a time is explained; send each by itself." if body.explain else None
        predictions = []
        if body.explain and len(body.texts) == 1:
            try:
                explanation = await wait_while_connected(request, explainer.submit(served.model, body.texts[0]))
                predictions = [_explained(body.texts[0], explanation)]
            except TooManyTokens as error:
                not_explained = str(error)
        if not predictions:
            probs = await wait_while_connected(request, queue.submit(served.model, body.texts))
            predictions = _predictions(served.model.class_names, probs, not_explained)
        metrics.texts.inc(len(predictions))
        answer = schemas.SentimentAnswer(model=schemas.ModelName.of(served.version), predictions=predictions)
        return Response(as_json(answer.model_dump()), media_type="application/json")

    return router


def _predictions(names: Sequence[str], probs: Probs, not_explained: str | None) -> list[schemas.Prediction]:
    return [
        schemas.Prediction(
            label=names[row.argmax()],
            probability=row.max(),
            probabilities=dict(zip(names, row.tolist(), strict=True)),
            not_explained=not_explained,
        )
        for row in probs
    ]


def _explained(text: str, explanation: Explanation) -> schemas.Prediction:
    tokens = [
        schemas.Token(
            text=text[token.start : token.stop],
            start=token.start,
            stop=token.stop,
            known=token.is_known,
            effect=token.effect,
            probability_without=token.probability_without,
        )
        for token in explanation.tokens
    ]
    return schemas.Prediction(
        label=explanation.label,
        probability=explanation.probabilities[explanation.label],
        probabilities=dict(explanation.probabilities),
        tokens=tokens,
    )
