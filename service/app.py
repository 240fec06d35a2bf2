"""The wiring, from settings to a running application, whose lifespan owns every resource."""

import asyncio
import functools
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service import VERSION
from service.admin import renewed_token
from service.api import batch, classify, feedback, health, keys, page, problems, variants
from service.api.access import Access, AccessLog
from service.api.arrivals import Arrivals
from service.api.context import Context
from service.api.direct import Shortcut
from service.api.drain import Drain
from service.api.head import HeadAsGet
from service.api.labels import Labels
from service.api.open_inference import messages
from service.api.open_inference import routes as open_inference
from service.api.origins import Origins
from service.api.unread import UnreadBody
from service.bundle.folder import Bundle, load_bundle
from service.bundle.reference import read_reference
from service.images.room import Room
from service.inference.pool import Pool
from service.inference.runtime import RUNTIME
from service.inference.shadow import Shadow
from service.inference.variants import Variants
from service.keys import renewed_keys
from service.monitoring.busy import WorkerBusy
from service.monitoring.drift import Drift
from service.monitoring.feedback import Feedback
from service.monitoring.fidelity import Fidelity
from service.monitoring.metrics import Metrics
from service.monitoring.sensors import watched
from service.selection import load, load_shadow, load_variants
from service.settings import Settings
from service.switching import Switch

# Otherwise FastAPI would look for OpenTelemetry's settings in every request.
NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False)
# Headers that scripts of other origins may read, besides those that browsers always allow.
EXPOSED_HEADERS = ("Server-Timing", "Retry-After", "X-Request-ID", "Inference-Header-Content-Length")


def create_app(settings: Settings) -> "Application":
    """Create the application; its lifespan loads the variants, and raises a StartError if that fails.

    Raises:
        SettingsError: the file of API keys can't be used.
    """
    app = Application(settings)
    for routes in (classify, batch, feedback, variants, open_inference, health):
        app.include_router(routes.router)
    app.include_router(page.make_router())
    problems.install(app)
    return app


class Application(FastAPI):
    """FastAPI behind middlewares that also wrap its direct routes, with what exists before its lifespan.

    In its lifespan, `state.context` is what the routes share.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            title="edgewise",
            version=VERSION,
            summary="Image classification on edge nodes",
            # Relative to the document: behind a proxy that may be below a prefix.
            servers=[{"url": "./"}],
            lifespan=_lifespan,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            # Clients name their methods so; FastAPI's own names end in the path and the method.
            generate_unique_id_function=lambda route: route.name,
            telemetry=NO_TELEMETRY,
        )
        self.settings = settings
        self.metrics = Metrics(CollectorRegistry())
        self.metrics.show_build(VERSION, RUNTIME, platform.python_version())
        self.access_log = AccessLog(self.metrics, settings.log_requests)
        self.drain = Drain()
        self.keys = renewed_keys(settings.api_keys_file) if settings.api_keys_file else None

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the application in its middlewares, from the inside out."""
        routes: ASGIApp = Shortcut(
            super().build_middleware_stack(), [*classify.router.routes, *batch.router.routes]
        )
        if self.keys:
            routes = keys.ApiKeys(routes, self.keys)
        app: ASGIApp = HeadAsGet(routes)
        origins = self.settings.cors_origins
        if "*" not in origins:
            app = Origins(app, origins)
        if origins:
            app = CORSMiddleware(
                app,
                allow_origins=origins,
                allow_methods=("GET", "POST", "PUT"),
                allow_headers=("*",),
                expose_headers=EXPOSED_HEADERS,
                # Browsers require this if the page is public and the service is in a private network.
                allow_private_network=True,
            )
        # Inside UnreadBody: what that does after an answer is not part of the request's time.
        return UnreadBody(Access(app, self.access_log))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the schemas of what routes read and answer without FastAPI."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document["components"]["schemas"]
            models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
                (problems.Problem, "serialization"),
                (problems.ProtocolProblem, "serialization"),
                (messages.InferenceRequest, "validation"),
                # FastAPI has it too, but drops the members of its example that are null.
                (variants.VariantList, "serialization"),
            ]
            _, more = models_json_schema(
                models, ref_template="#/components/schemas/{model}", schema_generator=_Schemas
            )
            schemas |= more["$defs"]
            _forget_validation(document)
            _forget_null_parameters(document)
            if self.keys:
                keys.describe(document)
        return super().openapi()


class _Schemas(GenerateJsonSchema):
    """Schemas without null as a default, like FastAPI's: openapi-typescript requires what has a default."""

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a member that can be omitted."""
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


@asynccontextmanager
async def _lifespan(app: Application) -> AsyncIterator[None]:
    settings, metrics = app.settings, app.metrics
    bundle = await asyncio.to_thread(load_bundle, settings.bundle, settings.bundle_public_key)
    admin_token = renewed_token(settings.admin_token_file) if settings.admin_token_file else None
    reference = await asyncio.to_thread(read_reference, bundle)
    loaded = await asyncio.to_thread(load_variants, settings, bundle)
    switch = Switch(bundle, loaded, functools.partial(load, settings, bundle), metrics)
    shadow = await asyncio.to_thread(_load_shadow, settings, bundle, metrics.registry)
    pool = Pool(
        settings.workers,
        queue_size=settings.queue_size,
        queue_bytes=settings.queue_bytes,
        room=Room(settings.max_decode_bytes),
        shadow=shadow,
    )
    metrics.watch_queue(lambda: pool.waiting, pool.queue_size, pool.workers)
    metrics.registry.register(WorkerBusy(lambda: pool.busy_seconds))
    _watch_load(metrics, loaded, pool)
    app.state.context = Context(
        settings=settings,
        metrics=metrics,
        access_log=app.access_log,
        drain=app.drain,
        arrivals=_arrivals(settings),
        bundle=bundle,
        variants=loaded,
        switch=switch,
        admin_token=admin_token,
        pool=pool,
        labels=Labels(bundle.classes),
        feedback=_feedback(settings, metrics.registry),
        drift=Drift(metrics.registry, reference, settings.drift_window),
    )
    try:
        with watched(settings.sysfs_root, metrics.registry):
            yield
    finally:
        app.access_log.end()
        await asyncio.to_thread(pool.close)


def _forget_validation(document: dict[str, Any]) -> None:
    """Remove the 422 that FastAPI documents for routes with path parameters, which none of them returns."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]


def _forget_null_parameters(document: dict[str, Any]) -> None:
    """Remove null from the types of parameters: they can only be omitted, since no text of a URL is null."""
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                value, *_ = parameter["schema"].pop("anyOf", [{}])
                parameter["schema"] |= value


def _load_shadow(settings: Settings, bundle: Bundle, registry: CollectorRegistry) -> Shadow | None:
    classifier = load_shadow(settings, bundle)
    return Shadow(classifier, settings.shadow_ratio, Fidelity(registry)) if classifier else None


def _feedback(settings: Settings, registry: CollectorRegistry) -> Feedback:
    return Feedback(registry, memory=settings.feedback_memory, window=settings.feedback_window)


def _arrivals(settings: Settings) -> Arrivals:
    return Arrivals(
        # A body larger than the limit on all together would be told to retry forever.
        max_bytes=min(settings.max_body_bytes, settings.read_bytes),
        total_bytes=settings.read_bytes,
        min_rate=settings.min_body_rate,
        seconds=settings.read_timeout_seconds,
    )


def _watch_load(metrics: Metrics, variants: Variants, pool: Pool) -> None:
    if variants.under_load is not None:
        # If no request has noticed yet that the load is over, the scrape does.
        metrics.under_load.set_function(lambda: variants.is_under_load(pool.wait_seconds))
        pool.on_full = variants.under_load.refused
