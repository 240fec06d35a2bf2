"""Loading a variant for its workers, on the requested delegate or, if allowed, on the CPU."""

from dataclasses import dataclass, replace

from service.bundle.folder import Bundle
from service.errors import DelegateError, SelfTestError
from service.images.pixels import DEFAULT_LIMITS, DecodeLimits
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, Fallback
from service.inference.footprint import try_out
from service.inference.runtime import RUNTIME
from service.inference.share import GraphShare


@dataclass(frozen=True, eq=False)
class LoadedVariant:
    """A variant, loaded: one classifier per worker, all of them alike.

    `fallback` says why it does not run on the requested delegate; None if it does.
    """

    name: str
    classifiers: tuple[Classifier, ...]
    fallback: str | None = None

    @property
    def delegate(self) -> Delegate:
        """The delegate it runs on."""
        return self.classifiers[0].delegate

    @property
    def share(self) -> GraphShare:
        """What the delegate took of the graph."""
        return self.classifiers[0].share


def load_variant(
    bundle: Bundle,
    name: str,
    delegate: Delegate = Delegate.XNNPACK,
    fallback: Fallback = Fallback.NONE,
    *,
    workers: int = 1,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> LoadedVariant:
    """Load and self-test a variant, with one classifier per worker.

    If the delegate does not work, `fallback` can allow XNNPACK in its place. XNNPACK taking nothing counts
    as a fallback too. It needs no permission: the CPU computes either way.

    Raises:
        BundleError: the bundle has no such variant, or its file is damaged.
        OperatorError: neither the runtime nor the delegate computes one of its operators.
        DelegateError: the delegate can't be loaded, crashes, or takes nothing, and no fallback applies.
        SelfTestError: it does not compute its golden vectors on this device, and no fallback applies.
    """
    try:
        try_out(bundle, name, delegate)
        # Its twins, too: an external delegate may refuse to be loaded a second time.
        loaded = _loaded(Classifier(bundle, name, delegate, limits), workers)
    except (DelegateError, SelfTestError) as error:
        if fallback is Fallback.NONE or delegate.is_built_in:
            raise
        return _loaded(Classifier(bundle, name, Delegate.XNNPACK, limits), workers, str(error))
    if delegate == Delegate.XNNPACK and not loaded.share.taken:
        reason = (
            f"xnnpack takes none of the {loaded.share.operators} operators of {name} under {RUNTIME}:"
            " the built-in kernels compute them"
        )
        return replace(loaded, fallback=reason)
    return loaded


def _loaded(first: Classifier, workers: int, fallback: str | None = None) -> LoadedVariant:
    return LoadedVariant(first.variant, (first, *(first.twin() for _ in range(workers - 1))), fallback)
