"""Which variants of a bundle are loaded, and the choice among them."""

import math
import time
from collections.abc import Callable, Iterable

from service.bundle.folder import Bundle
from service.errors import UnknownVariant, VariantNotLoaded
from service.inference.loading import LoadedVariant

# How long a variant for high load answers after the last refused image.
_AFTER_REFUSAL_SECONDS = 1.0


class UnderLoad:
    """A faster variant that answers in place of the active one while the load is high.

    This begins when images wait longer than `seconds` or one is refused, and ends when they wait less than
    half as long and none has been refused for a second. `changed` is called at both, with whether it begins
    and the waiting time in seconds.
    """

    def __init__(
        self, variant: LoadedVariant, seconds: float, changed: Callable[[bool, float], None]
    ) -> None:
        self.variant = variant
        self.answers = False
        self._seconds = seconds
        self._changed = changed
        self._refused_at = -math.inf

    def refused(self) -> None:
        """Record that an image was refused: the queue can be full before any image waits for long."""
        self._refused_at = time.monotonic()

    def consider(self, wait_seconds: float) -> bool:
        """Return whether it answers, now that an image would wait `wait_seconds` for a worker."""
        waits_long = wait_seconds >= self._seconds / 2 if self.answers else wait_seconds > self._seconds
        answers = waits_long or time.monotonic() - self._refused_at < _AFTER_REFUSAL_SECONDS
        if answers != self.answers:
            self.answers = answers
            self._changed(answers, wait_seconds)
        return answers


class Variants:
    """The loaded variants, and the one that answers if a request names none.

    Belongs to the event loop's thread. Whoever holds a LoadedVariant can keep using it after it is no
    longer one of these.
    """

    def __init__(
        self,
        bundle: Bundle,
        active: LoadedVariant,
        lasting: Iterable[LoadedVariant] = (),
        under_load: UnderLoad | None = None,
    ) -> None:
        """`lasting` stay loaded, whichever is active; `under_load` must be one of them."""
        self.active = active
        self.under_load = under_load
        self._bundle = bundle
        self._lasting = {variant.name: variant for variant in lasting}

    @property
    def all(self) -> tuple[LoadedVariant, ...]:
        """All loaded variants, each once, the active one first."""
        return (self.active, *(v for v in self._lasting.values() if v.name != self.active.name))

    def loaded(self, name: str) -> LoadedVariant | None:
        """Return the variant with that name; None if it is not loaded."""
        return self.active if name == self.active.name else self._lasting.get(name)

    def find(self, name: str | None) -> LoadedVariant | None:
        """Return the variant that a request names; None if it names none.

        Raises:
            UnknownVariant: it is not in the bundle; the message names those that are.
            VariantNotLoaded: it is in the bundle, but not loaded.
        """
        if name is None:
            return None
        variant = self.loaded(name)
        if variant is None:
            self.check_known(name)
            names = ", ".join(sorted(v.name for v in self.all))
            raise VariantNotLoaded(
                f"variant {name!r} is not loaded, only {names}; start the service with it in"
                " EDGEWISE_LOADED_VARIANTS, or make it the active one with PUT /v1/variants/active"
            )
        return variant

    def check_known(self, name: str) -> None:
        """Raise UnknownVariant if the bundle has no variant with that name."""
        if name not in self._bundle.manifest.variants:
            names = ", ".join(sorted(self._bundle.manifest.variants))
            raise UnknownVariant(f"the bundle has no variant {name[:64]!a}; it has: {names}")

    def choose(self, named: LoadedVariant | None, wait_seconds: float) -> LoadedVariant:
        """Return the variant for a request that is ready now: `named`, from `find`, or the one that answers.

        `wait_seconds`: how long an image would wait for a worker.
        """
        variant = self.active
        if self.under_load is not None and self.is_under_load(wait_seconds):
            variant = self.under_load.variant
        return named or variant

    def is_under_load(self, wait_seconds: float) -> bool:
        """Return whether the variant for high load answers in place of the active one."""
        if self.under_load is None or self.under_load.variant.name == self.active.name:
            return False
        return self.under_load.consider(wait_seconds)

    def activate(self, variant: LoadedVariant) -> None:
        """Make `variant` the one that answers; the previous one is released unless it is to stay loaded."""
        self.active = variant
