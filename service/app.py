"""The wiring: settings to a running application; its lifespan owns every resource."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api import classify, health, problems, variants
from service.api.access import AccessLog
from service.api.context import Context
from service.api.drain import Drain
from service.api.unread import UnreadBody
from service.bundle import Bundle, load_bundle
from service.inference.image import DecodeLimits
from service.inference.variants import LoadedVariant, Variants, load_variant
from service.manifest import reference_evaluation
from service.monitoring.metrics import Metrics
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan loads the variant, and raises a StartError where that fails."""
    metrics = Metrics(CollectorRegistry())
    drain = Drain()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bundle = await asyncio.to_thread(load_bundle, settings.bundle)
        loaded = await asyncio.to_thread(_load, settings, bundle)
        loaded_variants = Variants(bundle, loaded)
        _describe(metrics, settings, bundle, loaded)
        app.state.context = Context(settings, metrics, drain, bundle, loaded_variants)
        try:
            yield
        finally:
            await asyncio.to_thread(loaded_variants.close)

    app = _Application(
        title="edgewise",
        summary="Image classification on edge nodes",
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
    )
    for routes in (classify, variants, health):
        app.include_router(routes.router)
    problems.install(app)
    # The last one added is the outermost.
    app.add_middleware(problems.UnexpectedErrors)
    app.add_middleware(UnreadBody)
    app.add_middleware(AccessLog, metrics=metrics)
    app.state.drain = drain
    return app


class _Application(FastAPI):
    """FastAPI, with the problem document among the schemas of its OpenAPI."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        document["components"]["schemas"].setdefault(problems.SCHEMA, problems.Problem.model_json_schema())
        return document


def _load(settings: Settings, bundle: Bundle) -> LoadedVariant:
    return load_variant(
        bundle,
        settings.variant or bundle.manifest.default_variant,
        workers=settings.workers,
        queue_size=settings.queue_size,
        delegate=settings.delegate,
        limits=DecodeLimits(max_pixels=settings.max_pixels),
    )


def _describe(metrics: Metrics, settings: Settings, bundle: Bundle, loaded: LoadedVariant) -> None:
    """Set the metrics that hold as long as the variant is loaded."""
    variant = bundle.variant(loaded.name)
    metrics.watch_queue(lambda: loaded.pool.waiting, settings.queue_size, loaded.pool.workers)
    metrics.variant_info.labels(
        bundle=bundle.manifest.name,
        variant=loaded.name,
        precision=variant.precision,
        sha256=variant.sha256,
        runtime=loaded.runtime,
        delegate=loaded.delegate,
    ).set(1)
    metrics.model_bytes.labels(loaded.name).set(variant.bytes)
    evaluation = reference_evaluation(variant.evaluations)
    if evaluation:
        metrics.expected_accuracy.labels(loaded.name, "1").set(evaluation.top1.ratio)
        metrics.expected_accuracy.labels(loaded.name, "5").set(evaluation.top5.ratio)
