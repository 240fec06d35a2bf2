"""The wiring: settings to a running application; its lifespan owns every resource."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from service.api import classify, health, page, problems, variants
from service.api.access import Access, AccessLog
from service.api.arrivals import Arrivals
from service.api.context import Context
from service.api.direct import Shortcut
from service.api.drain import Drain
from service.api.unread import UnreadBody
from service.bundle import Bundle, load_bundle
from service.inference.image import DecodeLimits
from service.inference.pool import Pool
from service.inference.variants import LoadedVariant, Variants, load_variant
from service.manifest import reference_evaluation
from service.monitoring.metrics import Metrics
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan loads the variant, and raises a StartError where that fails."""
    metrics = Metrics(CollectorRegistry())
    access_log = AccessLog(metrics)
    drain = Drain()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bundle = await asyncio.to_thread(load_bundle, settings.bundle)
        loaded = await asyncio.to_thread(_load, settings, bundle)
        _describe(metrics, bundle, loaded)
        pool = Pool(settings.workers, queue_size=settings.queue_size, queue_bytes=settings.queue_bytes)
        metrics.watch_queue(lambda: pool.waiting, pool.queue_size, pool.workers)
        app.state.context = Context(
            settings, metrics, access_log, drain, _arrivals(settings), bundle, Variants(bundle, loaded), pool
        )
        try:
            yield
        finally:
            access_log.write()
            await asyncio.to_thread(pool.close)

    app = _Application(
        title="edgewise",
        summary="Image classification on edge nodes",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for routes in (classify, variants, health):
        app.include_router(routes.router)
    app.include_router(page.make_router())
    problems.install(app)
    app.add_middleware(problems.Problems)
    app.state.drain = drain
    app.state.metrics = metrics
    app.state.access_log = access_log
    return app


class _Application(FastAPI):
    """FastAPI behind middlewares that its own direct routes run in, too."""

    def build_middleware_stack(self) -> ASGIApp:
        """The application, from the outside in."""
        routes = Shortcut(super().build_middleware_stack(), classify.router.routes)
        return Access(UnreadBody(routes), self.state.access_log)

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the problem document among its schemas."""
        document = super().openapi()
        document["components"]["schemas"].setdefault(problems.SCHEMA, problems.Problem.model_json_schema())
        return document


def _load(settings: Settings, bundle: Bundle) -> LoadedVariant:
    return load_variant(
        bundle,
        settings.variant or bundle.manifest.default_variant,
        workers=settings.workers,
        delegate=settings.chosen_delegate,
        fallback=settings.delegate_fallback,
        limits=DecodeLimits(max_pixels=settings.max_pixels),
    )


def _arrivals(settings: Settings) -> Arrivals:
    return Arrivals(
        max_bytes=settings.max_body_bytes,
        total_bytes=settings.read_bytes,
        min_rate=settings.min_body_rate,
        seconds=settings.read_timeout_seconds,
    )


def _describe(metrics: Metrics, bundle: Bundle, loaded: LoadedVariant) -> None:
    """Set the metrics that hold as long as the variant is loaded."""
    variant = bundle.variant(loaded.name)
    metrics.variant_info.labels(
        bundle=bundle.manifest.name,
        variant=loaded.name,
        precision=variant.precision,
        sha256=variant.sha256,
        runtime=loaded.runtime,
        delegate=str(loaded.delegate),
    ).set(1)
    metrics.delegate_partitions.labels(loaded.name).set(loaded.share.partitions)
    metrics.delegate_fallback.set(loaded.fallback is not None)
    metrics.model_bytes.labels(loaded.name).set(variant.bytes)
    evaluation = reference_evaluation(variant.evaluations)
    if evaluation:
        metrics.expected_accuracy.labels(loaded.name, "1").set(evaluation.top1.ratio)
        metrics.expected_accuracy.labels(loaded.name, "5").set(evaluation.top5.ratio)
