"""How a service refuses a request when its queue is full: 429, and when to ask again."""

import re

REFUSED = 429


def seconds_to_wait(retry_after: str) -> int | None:
    """Return the seconds in a `Retry-After` header, at least 1; None if it is absent or holds a date."""
    said = re.fullmatch(r"[0-9]{1,9}", retry_after)
    return max(1, int(said[0])) if said else None
