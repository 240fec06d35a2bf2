"""A worker that never comes back from an image, as where an accelerator was unplugged."""

import asyncio

from service.inference.pool import Pool

LOOK_SECONDS = 1.0


async def hung_worker(pool: Pool, seconds: float) -> None:
    """Return once the same image has been in work for `seconds`.

    They are counted by looks, not by the clock: a process that was stopped for a while does not hang.
    """
    looks, before = 0, None
    while looks * LOOK_SECONDS < seconds:
        await asyncio.sleep(LOOK_SECONDS)
        since = pool.oldest_since
        looks = looks + 1 if since is not None and since == before else 0
        before = since
