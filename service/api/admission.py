"""Admission to the workers: whether a request is accepted, for which variant, and how long it may wait."""

from fastapi import Request

from service.api.context import Context
from service.errors import QueueFull, UnknownVariant, VariantNotLoaded, WaitTooLong
from service.inference.loading import LoadedVariant

# What a request can be refused with for its variant, and for the time it would wait.
ADMISSION_ERRORS = (UnknownVariant, VariantNotLoaded, QueueFull, WaitTooLong)


def patience(shared: Context, timeout_ms: float | None) -> float:
    """Return how many seconds an image may wait for a worker."""
    longest = shared.settings.request_timeout_seconds
    # Compared first: an integer too large for a float can't be divided.
    return longest if timeout_ms is None or timeout_ms > 1000 * longest else timeout_ms / 1000


def admit(request: Request, shared: Context, named: LoadedVariant | None, deadline: float) -> None:
    """Admit a request whose head has arrived, or refuse it before its body is read.

    Raises:
        QueueFull, WaitTooLong: see `Pool.check`.
    """
    request.state.variant = (named or shared.variants.active).name
    shared.pool.check(deadline)


def choose(request: Request, shared: Context, named: LoadedVariant | None) -> LoadedVariant:
    """Return the variant for a request whose body is complete: `named`, or the one that answers now."""
    variants = shared.variants
    variant = variants.choose(named, shared.pool.wait_seconds if variants.under_load else 0.0)
    request.state.variant = variant.name
    return variant
