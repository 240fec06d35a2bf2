"""What the routes share."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.api.access import AccessLog
from service.api.arrivals import Arrivals
from service.api.drain import Drain
from service.api.labels import Labels
from service.bundle.folder import Bundle
from service.inference.pool import Pool
from service.inference.variants import Variants
from service.monitoring.drift import Drift
from service.monitoring.feedback import Feedback
from service.monitoring.metrics import Metrics
from service.renewed import Renewed
from service.settings import Settings
from service.switching import Switch


@dataclass(frozen=True, kw_only=True)
class Context:
    """The resources that the lifespan owns, and those that exist before it."""

    settings: Settings
    metrics: Metrics
    access_log: AccessLog
    drain: Drain
    arrivals: Arrivals
    bundle: Bundle
    variants: Variants
    switch: Switch
    admin_token: Renewed[str] | None
    pool: Pool
    labels: Labels
    feedback: Feedback
    drift: Drift


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Shared = Annotated[Context, Depends(_context)]
