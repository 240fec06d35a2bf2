"""Which variants of a bundle are loaded, and the choice among them."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.bundle.folder import Bundle
from service.errors import UnknownVariant, VariantNotLoaded
from service.images.pixels import DEFAULT_LIMITS, DecodeLimits
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, Fallback
from service.inference.loading import load_classifiers
from service.inference.share import GraphShare

# How long a variant for a high load answers after the last image that was refused.
_AFTER_REFUSAL_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class LoadedVariant:
    """A variant that answers: one classifier a worker, all of them alike.

    `fallback` says why it does not run on the delegate that was asked for; None where it does.
    """

    name: str
    classifiers: tuple[Classifier, ...]
    fallback: str | None = None

    @property
    def delegate(self) -> Delegate:
        """What it runs on."""
        return self.classifiers[0].delegate

    @property
    def share(self) -> GraphShare:
        """What that took of the graph."""
        return self.classifiers[0].share

    @property
    def runtime(self) -> str:
        """The name and version of what runs it."""
        return self.classifiers[0].runtime


class Relief:
    """A faster variant that answers in place of the active one while the load is high.

    That begins where images wait longer than `seconds`, or where one was refused; it ends where they wait
    less than half as long, and none was refused for a second. `changed` is called with whether it begins,
    and the waiting time.
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
        """Take note of an image that found no place: a queue may be full before anybody waits for long."""
        self._refused_at = time.monotonic()

    def consider(self, wait_seconds: float) -> bool:
        """Whether it answers, now that an image would wait so long for a worker."""
        waits_long = wait_seconds >= self._seconds / 2 if self.answers else wait_seconds > self._seconds
        answers = waits_long or time.monotonic() - self._refused_at < _AFTER_REFUSAL_SECONDS
        if answers != self.answers:
            self.answers = answers
            self._changed(answers, wait_seconds)
        return answers


class Variants:
    """The variants that are loaded, and which one answers where a request names none.

    Belongs to the event loop's thread. Whoever holds a LoadedVariant may go on using it after it is
    no longer among these.
    """

    def __init__(
        self,
        bundle: Bundle,
        active: LoadedVariant,
        lasting: Iterable[LoadedVariant] = (),
        relief: Relief | None = None,
    ) -> None:
        """`lasting` stay loaded whichever is active; `relief` must be among them."""
        self.active = active
        self.relief = relief
        self._bundle = bundle
        self._lasting = {variant.name: variant for variant in lasting}

    @property
    def all(self) -> tuple[LoadedVariant, ...]:
        """All that are loaded, each once, the active one first."""
        return (self.active, *(v for v in self._lasting.values() if v.name != self.active.name))

    def loaded(self, name: str) -> LoadedVariant | None:
        """The variant of that name, None where it is not loaded."""
        return self.active if name == self.active.name else self._lasting.get(name)

    def find(self, name: str | None) -> LoadedVariant | None:
        """The variant that a request names, None where it names none.

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
                f"variant {name!r} is not loaded, only {names}; start the service with it among"
                " EDGEWISE_LOADED_VARIANTS, or make it the active one by PUT /v1/variants/active"
            )
        return variant

    def check_known(self, name: str) -> None:
        """Raise UnknownVariant where the bundle has no variant of that name."""
        if name not in self._bundle.manifest.variants:
            names = ", ".join(sorted(self._bundle.manifest.variants))
            raise UnknownVariant(f"the bundle has no variant {name[:64]!a}; it has: {names}")

    def choose(self, named: LoadedVariant | None, wait_seconds: float) -> LoadedVariant:
        """The variant for a request that is ready now: `named`, as `find` gave it, or whichever answers.

        `wait_seconds`: how long an image would wait for a worker.
        """
        variant = self.active
        if self.relief is not None and self.is_relieved(wait_seconds):
            variant = self.relief.variant
        return named or variant

    def is_relieved(self, wait_seconds: float) -> bool:
        """Whether the variant for a high load answers in place of the active one."""
        if self.relief is None or self.relief.variant.name == self.active.name:
            return False
        return self.relief.consider(wait_seconds)

    def activate(self, variant: LoadedVariant) -> None:
        """From now on `variant` answers; the one before is let go of, unless it is to stay loaded."""
        self.active = variant


def load_variant(
    bundle: Bundle,
    name: str,
    *,
    workers: int,
    delegate: Delegate = Delegate.XNNPACK,
    fallback: Fallback = Fallback.NONE,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> LoadedVariant:
    """Load a variant once a worker, self-tested.

    Where the delegate does not do, `fallback` may allow XNNPACK in its place.

    Raises:
        BundleError: the bundle has no such variant, or its file is damaged.
        OperatorError: nothing here computes one of its operators.
        DelegateError: the delegate can't be loaded, crashes, or takes nothing.
        SelfTestError: it does not compute its golden vectors on this device.
    """
    classifiers, reason = load_classifiers(bundle, name, delegate, fallback, count=workers, limits=limits)
    return LoadedVariant(name, tuple(classifiers), reason)
