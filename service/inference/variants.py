"""Which variants of a bundle are loaded, and the choice among them."""

from dataclasses import dataclass

from service.bundle import Bundle
from service.errors import UnknownVariant
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, Fallback
from service.inference.image import DEFAULT_LIMITS, DecodeLimits
from service.inference.loading import load_classifiers
from service.inference.share import GraphShare


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


class Variants:
    """The variants that are loaded: the active one."""

    def __init__(self, bundle: Bundle, active: LoadedVariant) -> None:
        self._bundle = bundle
        self.active = active

    def loaded(self, name: str) -> LoadedVariant | None:
        """The variant of that name, None where it is not loaded."""
        return self.active if name == self.active.name else None

    def choose(self, name: str | None) -> LoadedVariant:
        """The variant that a request names, or the active one where it names none.

        Raises:
            UnknownVariant: it is not in the bundle, or not loaded; the message names those that are.
        """
        if name is None:
            return self.active
        variant = self.loaded(name)
        if variant is None:
            known = "is not loaded" if name in self._bundle.manifest.variants else "is not in the bundle"
            raise UnknownVariant(f"variant {name!r} {known}; loaded: {self.active.name}")
        return variant


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
