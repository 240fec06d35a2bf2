"""Detecting a worker that never finishes an image, for example because an accelerator was unplugged."""

import asyncio

from service.inference.pool import Pool

LOOK_SECONDS = 1.0


async def hung_worker(pool: Pool, seconds: float) -> None:
    """Return once a worker has been busy with the same image for `seconds`.

    This counts checks rather than clock time: a process that was suspended for a while is not hung.
    """
    looks, before = 0, None
    while looks * LOOK_SECONDS < seconds:
        await asyncio.sleep(LOOK_SECONDS)
        since = pool.oldest_since
        looks = looks + 1 if since is not None and since == before else 0
        before = since
