"""Loading a variant for its workers, on the requested delegate or, if allowed, on the CPU."""

from service.bundle.folder import Bundle
from service.errors import DelegateError, SelfTestError
from service.images.pixels import DEFAULT_LIMITS, DecodeLimits
from service.inference.classifier import Classifier
from service.inference.delegates import Delegate, Fallback
from service.inference.footprint import try_out


def load_classifiers(
    bundle: Bundle,
    name: str,
    delegate: Delegate,
    fallback: Fallback = Fallback.NONE,
    *,
    count: int = 1,
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> tuple[list[Classifier], str | None]:
    """Load `count` classifiers of a variant; return also why they are not on `delegate`, None if they are.

    XNNPACK taking nothing counts as a fallback too. It needs no permission: the CPU computes either way.

    Raises:
        BundleError: the bundle has no such variant, or its file is damaged.
        OperatorError: neither the runtime nor the delegate computes one of its operators.
        DelegateError: the delegate can't be loaded, crashes, or takes nothing, and no fallback applies.
        SelfTestError: it does not compute its golden vectors on this device, and no fallback applies.
    """
    try:
        try_out(bundle, name, delegate)
        classifiers = _alike(Classifier(bundle, name, delegate, limits), count)
    except (DelegateError, SelfTestError) as error:
        if fallback is Fallback.NONE or delegate.is_built_in:
            raise
        return _alike(Classifier(bundle, name, Delegate.XNNPACK, limits), count), str(error)
    share, runtime = classifiers[0].share, classifiers[0].runtime
    if delegate == Delegate.XNNPACK and not share.taken:
        return classifiers, (
            f"xnnpack takes none of the {share.operators} operators of {name} under {runtime}: the built-in"
            " kernels compute them"
        )
    return classifiers, None


def _alike(first: Classifier, count: int) -> list[Classifier]:
    return [first, *(first.twin() for _ in range(count - 1))]
