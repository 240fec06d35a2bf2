"""A request's way to the workers: whether it may come in, and which variant and how long it gets."""

from fastapi import Request

from service.api.context import Context
from service.inference.variants import LoadedVariant


def patience(shared: Context, timeout_ms: float | None) -> float:
    """Seconds that an image may wait for a worker."""
    longest = shared.settings.request_timeout_seconds
    # Compared first: a number without end can't be divided.
    return longest if timeout_ms is None or timeout_ms > 1000 * longest else timeout_ms / 1000


def admit(request: Request, shared: Context, named: LoadedVariant | None, deadline: float) -> None:
    """Let a request in whose head is there, or refuse it before its body is read.

    Raises:
        QueueFull, WaitTooLong: as `Pool.check` says.
    """
    request.state.variant = (named or shared.variants.active).name
    shared.pool.check(deadline)


def choose(request: Request, shared: Context, named: LoadedVariant | None) -> LoadedVariant:
    """The variant for a request whose body is whole: `named`, or whichever answers now."""
    variants = shared.variants
    variant = variants.choose(named, shared.pool.wait_seconds if variants.relief else 0.0)
    request.state.variant = variant.name
    return variant
