"""What a service that has no place for a request says: 429, and when it is worth asking again."""

import re

REFUSED = 429


def seconds_to_wait(retry_after: str) -> int | None:
    """Seconds by a `Retry-After` header, at least one; None where it says none, or says it as a date."""
    said = re.fullmatch(r"[0-9]{1,9}", retry_after)
    return max(1, int(said[0])) if said else None
