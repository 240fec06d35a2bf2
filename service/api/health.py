"""Probes and metrics, for those that monitor the service; they bypass the queue."""

import re

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, Field

from service.api.context import Shared
from service.api.problems import documented
from service.errors import Draining, InternalError

METRICS_EXAMPLE = "# TYPE edgewise_queue_depth gauge\nedgewise_queue_depth 0.0\n"
_TEXT = {"type": "string"}

# No metric's name needs escaping, but `escaping=values` makes prometheus_client escape the names of samples
# and not those of their families.
_ESCAPING = re.compile(r";\s*escaping=[^;,]*")

router = APIRouter()


class Health(BaseModel):
    """The answer of a successful probe."""

    status: str = Field(examples=["live", "ready"])


class Readiness(Health):
    """Ready, and whether everything is as requested."""

    delegate: str = Field(description="What the active variant runs on", examples=["xnnpack"])
    delegate_fallback: str | None = Field(
        description="Why that is not the requested delegate; null if it is", examples=[None]
    )


@router.get("/livez", summary="Liveness", responses=documented(InternalError))
async def live() -> Health:
    """Whether the process answers; if it does not, restart it."""
    return Health(status="live")


@router.get("/readyz", summary="Readiness", responses=documented(InternalError, Draining))
async def ready(shared: Shared) -> Readiness:
    """Whether to send requests here: the model is warm, and the service is not stopping.

    The port opens when the model is warm: before that there is no answer at all.
    """
    shared.drain.check()
    active = shared.variants.active
    return Readiness(status="ready", delegate=str(active.delegate), delegate_fallback=active.fallback)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"schema": _TEXT, "example": METRICS_EXAMPLE},
                "application/openmetrics-text": {"schema": _TEXT, "example": METRICS_EXAMPLE + "# EOF\n"},
            }
        },
        **documented(InternalError),
    },
)
async def metrics(request: Request, shared: Shared) -> Response:
    """All metrics, in the text format or in OpenMetrics, as the request asks."""
    shared.access_log.write()
    accept = _ESCAPING.sub("", request.headers.get("Accept", ""))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # It fails on versions that are not numbers.
        encode, content_type = choose_encoder("")
    return Response(encode(shared.metrics.registry), headers={"Content-Type": content_type})
