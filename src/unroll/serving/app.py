"""The HTTP application: REST under `/v1`, health, metrics and the page.

It knows models by their sources only (`unroll.serving.source`): where versions come from, and who says which one is the
champion, is the business of whoever makes the app.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse, Response

from unroll.generation import SamplingSettings, TextGenerator
from unroll.prediction import SentimentPredictor
from unroll.serving import schemas
from unroll.serving.batching import PredictionQueue
from unroll.serving.generate_route import generate_router
from unroll.serving.limits import Body, Door, Watch
from unroll.serving.metrics import ServingMetrics
from unroll.serving.problems import add_problem_handlers, as_json, responses
from unroll.serving.sentiment_route import Explainer, sentiment_router
from unroll.serving.settings import ServingSettings
from unroll.serving.slot import ModelSlot, Reloader
from unroll.serving.source import ModelSource
from unroll.serving.streaming import TextEngine

STATIC = Path(__file__).with_name("static")
WARM_UP = "A text of a few words, so that the first request finds everything in its place."
Slots = Sequence[ModelSlot[Any]]


def make_app(
    sentiment: ModelSource, language_model: ModelSource, device: torch.device, settings: ServingSettings
) -> FastAPI:
    """The application. Nothing is loaded and no thread is started before its lifespan begins."""

    def load_predictor(folder: Path) -> SentimentPredictor:
        predictor = SentimentPredictor.load(folder, device)
        predictor.predict([WARM_UP])
        return predictor

    def load_engine(folder: Path) -> TextEngine:
        generator = TextGenerator.load(folder, device)
        generator.generate([WARM_UP[:1]], SamplingSettings(length=4))
        return TextEngine(generator, settings.max_streams)

    predictors = ModelSlot("sentiment", sentiment, load_predictor)
    engines = ModelSlot("language_model", language_model, load_engine)
    slots: Slots = (predictors, engines)
    metrics = ServingMetrics(slots)
    queue = PredictionQueue(settings.max_waiting_texts, metrics.batch_texts.observe)
    explainer = Explainer(settings.max_waiting_explanations)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reloader = Reloader(slots, settings.seconds_between_looks)
        queue.start()
        reloader.start()
        yield
        reloader.stop()
        explainer.close()
        queue.close()

    app = FastAPI(
        title="Unroll",
        summary="Sentiment of texts and text from prompts, by recurrent networks.",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # both pages would load scripts from another host
        redoc_url=None,
    )
    metrics.waiting_texts.set_function(lambda: queue.num_waiting)
    metrics.streams.set_function(lambda: engines.served.model.num_streams if engines.served else 0)
    add_problem_handlers(app, settings.retry_after, metrics)
    token = [Security(HTTPBearer(auto_error=False))] if settings.token is not None else []
    app.include_router(sentiment_router(predictors, queue, explainer, metrics), dependencies=token)
    app.include_router(generate_router(engines, metrics), dependencies=token)
    _add_health_routes(app, slots)
    _add_metrics_route(app, metrics, token)
    _add_page(app)
    app.add_middleware(Body, settings=settings)
    app.add_middleware(Door, settings=settings, metrics=metrics)
    app.add_middleware(Watch, metrics=metrics)
    return app


def _add_health_routes(app: FastAPI, slots: Slots) -> None:
    @app.get("/healthz", summary="Is the process alive?", responses=responses(405))
    async def healthz() -> dict[str, str]:
        """Always the same answer while the event loop runs."""
        return {"status": "alive"}

    @app.get(
        "/readyz",
        summary="Can requests be answered?",
        response_model=schemas.Readiness,
        responses={503: {"model": schemas.Readiness}},
    )
    async def readyz() -> Response:
        """Ready when some model is served, and none that the registry has a champion of is still to be loaded.

        A registry that does not answer leaves the old models serving, and the server ready.
        """
        readiness = _readiness(slots)
        status = 200 if readiness.status == "ready" else 503
        return Response(as_json(readiness.model_dump()), status, media_type="application/json")


def _readiness(slots: Slots) -> schemas.Readiness:
    projects = {}
    for slot in slots:
        state = slot.state
        projects[slot.project] = schemas.ProjectState(
            name=slot.source.name,
            model=schemas.ModelName.of(slot.served.version) if slot.served else None,
            registry_up=state.is_source_up,
            checked=state.checked,
            trouble=state.trouble,
        )
    is_ready = any(slot.served for slot in slots) and all(slot.is_settled for slot in slots)
    troubles = [f"{each.name}: {each.trouble}" for each in projects.values() if each.trouble]
    missing = [f"{each.name}: no model" for each in projects.values() if each.model is None and not each.trouble]
    detail = "; ".join([*troubles, *missing]) or "every model is served"
    return schemas.Readiness(status="ready" if is_ready else "not ready", detail=detail, projects=projects)


def _add_metrics_route(app: FastAPI, metrics: ServingMetrics, token: list[Any]) -> None:
    content = {"text/plain": {"schema": {"type": "string"}}}

    @app.get(
        "/metrics",
        summary="Metrics in Prometheus' text format",
        response_class=Response,
        responses={200: {"content": content}, **responses(401)},
        dependencies=token,
    )
    async def read_metrics() -> Response:
        """Traffic, limits met, batches, and which model answers."""
        return Response(metrics.render(), media_type=metrics.media_type)


def _add_page(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
