"""Every error that edgewise raises on purpose.

EdgewiseError
├── StartError              the service can't start; one line that says what to do
│   ├── SettingsError       a setting is unknown or has a bad value
│   ├── BundleError         the bundle is missing, damaged or not signed
│   ├── DelegateError       a delegate can't be loaded or does not suit
│   ├── OperatorError       a model's operator is not supported
│   ├── SelfTestError       the golden vectors fail on this device
│   ├── DatasetError        a folder of labelled images can't be used
│   └── WorkerHung          a worker is stuck on an image
└── RequestError            one request can't be answered; becomes a problem document
    ├── InvalidHttp         400  the request breaks HTTP's own rules
    ├── EmptyBody           400  the body has no bytes
    ├── Unauthorized        401  the key or token is missing or wrong
    ├── SwitchingDisabled   403  the service has no admin token
    ├── ForeignOrigin       403  a page of another origin sent it
    ├── BadMultipart        400  the form can't be parsed or has no image
    ├── BadInferenceRequest 400  an inference request breaks the protocol
    ├── UnknownRoute        404  no such path
    ├── UnknownAnswer       404  no such answer is remembered
    ├── UnknownModel        404  the model served has another name
    ├── MethodNotAllowed    405  the path does not take this method
    ├── SlowBody            408  the body did not arrive in time
    ├── TruthAlreadyTold    409  its true class was already reported
    ├── BodyTooLarge        413  more bytes than the limit
    ├── BatchTooLarge       413  more images than the limit
    ├── EncodedBody         415  the body has a content coding
    ├── BadParameter        422  a query parameter has a bad value
    ├── HeadTooLarge        431  first line and headers are too long
    ├── InternalError       500  an unexpected error
    ├── Draining            503  the service is stopping
    ├── TooManyConnections  503  all connections are in use
    ├── ImageTooLarge       413  more pixels than the limit
    ├── UnsupportedImage    415  not a supported image format
    ├── CorruptImage        422  truncated or damaged image data
    ├── UnknownVariant      404  the bundle has no such variant
    ├── VariantNotLoaded    409  the variant exists, but is not loaded
    ├── SwitchInProgress    409  another switch is still running
    ├── UnusableVariant     500  the variant can't be used here
    ├── NoAnswer            500  the model gives NaN or infinity
    ├── QueueFull           429  the queue is full
    ├── WaitTooLong         429  it would wait beyond its deadline
    └── DeadlineExceeded    504  no worker was free before its deadline
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that an unknown one is most like, to suggest it, or None if it is like none.

    Upper and lower case count as the same.
    """
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    return folded[near[0]] if near else None


class EdgewiseError(Exception):
    """Base of every error raised on purpose; `str(error)` is one line for a person."""


class StartError(EdgewiseError):
    """The program can't continue; it exits with this one line."""


class SettingsError(StartError):
    """A setting is unknown or has a bad value."""


class BundleError(StartError):
    """A bundle is missing, damaged, incomplete, not signed as required, or can't be written."""


class DelegateError(StartError):
    """A delegate can't be loaded, or does not suit a model."""


class OperatorError(StartError):
    """A model has an operator that neither the runtime nor the delegate supports."""


class SelfTestError(StartError):
    """A variant does not reproduce its golden vectors on this device."""


class DatasetError(StartError):
    """A folder of labelled images can't be used for the requested purpose."""


class WorkerHung(StartError):
    """A worker is stuck on an image; only a new process helps."""


class RequestError(EdgewiseError):
    """One request can't be answered.

    `status` is the HTTP status, `code` the last part of the problem's stable `type`,
    `title` its fixed one-line summary, `headers` are the headers of every such answer.
    `retry_after_seconds` says when the same request may succeed; None if that is not known.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class InvalidHttp(RequestError):
    """The request breaks HTTP's own rules, or is not HTTP at all."""

    status = 400
    code = "invalid-http"
    title = "The request is not valid HTTP"


class EmptyBody(RequestError):
    """The body has no bytes."""

    status = 400
    code = "empty-body"
    title = "The request has no image"


class Unauthorized(RequestError):
    """The API key or admin token is missing or wrong."""

    status = 401
    code = "unauthorized"
    title = "A valid key or token is required"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class SwitchingDisabled(RequestError):
    """The service has no admin token, so nobody can switch variants."""

    status = 403
    code = "switching-disabled"
    title = "Switching is disabled"


class ForeignOrigin(RequestError):
    """A web page of an origin that is not listed sent the request."""

    status = 403
    code = "foreign-origin"
    title = "The page's origin is not allowed"


class BadMultipart(RequestError):
    """The multipart form can't be parsed, or has no part named `image`."""

    status = 400
    code = "bad-multipart"
    title = "The multipart form can't be used"


class BadInferenceRequest(RequestError):
    """The request does not conform to the Open Inference Protocol, or to the model."""

    status = 400
    code = "bad-inference-request"
    title = "The inference request can't be used"


class UnknownAnswer(RequestError):
    """There was no answer with this id, or it is no longer remembered."""

    status = 404
    code = "unknown-answer"
    title = "There is no such answer"


class TruthAlreadyTold(RequestError):
    """The true class of this answer was already reported."""

    status = 409
    code = "truth-already-told"
    title = "The true class was already reported"


class UnknownModel(RequestError):
    """The request names a model that is not the one served."""

    status = 404
    code = "unknown-model"
    title = "There is no such model"


class UnknownRoute(RequestError):
    """There is nothing at this path."""

    status = 404
    code = "unknown-route"
    title = "There is no such route"


class MethodNotAllowed(RequestError):
    """The path exists, but does not take this method."""

    status = 405
    code = "method-not-allowed"
    title = "The route does not take this method"


class SlowBody(RequestError):
    """The body did not arrive completely in time."""

    status = 408
    code = "slow-body"
    title = "The body took too long to arrive"


class BodyTooLarge(RequestError):
    """The body has more bytes than the limit."""

    status = 413
    code = "body-too-large"
    title = "The body is too large"


class BatchTooLarge(RequestError):
    """The request has more images than the limit."""

    status = 413
    code = "batch-too-large"
    title = "There are too many images"


class EncodedBody(RequestError):
    """The body has a content coding, such as gzip; none is supported."""

    status = 415
    code = "encoded-body"
    title = "The body has a content coding"
    headers: ClassVar[Mapping[str, str]] = {"Accept-Encoding": "identity"}


class BadParameter(RequestError):
    """A query parameter is unknown or has a bad value."""

    status = 422
    code = "bad-parameter"
    title = "A parameter has a bad value"


class HeadTooLarge(RequestError):
    """The request's first line and headers, or its body's framing, are longer than the limits."""

    status = 431
    code = "head-too-large"
    title = "The request's head is too large"


class InternalError(RequestError):
    """An unexpected error; the log has its details, the answer does not."""

    status = 500
    code = "internal-error"
    title = "The service failed"


class Draining(RequestError):
    """The service is stopping and accepts no new requests."""

    status = 503
    code = "draining"
    title = "The service is stopping"


class TooManyConnections(RequestError):
    """All connections that the service allows are in use."""

    status = 503
    code = "too-many-connections"
    title = "There are too many connections"


class ImageTooLarge(RequestError):
    """The image has more pixels, or would take more memory to decode, than the limit."""

    status = 413
    code = "image-too-large"
    title = "The image has too many pixels"


class UnsupportedImage(RequestError):
    """The bytes are not in a supported image format."""

    status = 415
    code = "unsupported-image"
    title = "The image format is not supported"


class CorruptImage(RequestError):
    """The image is truncated or damaged."""

    status = 422
    code = "corrupt-image"
    title = "The image is damaged"


class UnknownVariant(RequestError):
    """The request names a variant that the bundle does not have."""

    status = 404
    code = "unknown-variant"
    title = "There is no such variant"


class VariantNotLoaded(RequestError):
    """The request names a variant of the bundle that is not loaded."""

    status = 409
    code = "variant-not-loaded"
    title = "The variant is not loaded"


class SwitchInProgress(RequestError):
    """Another switch is still loading its variant."""

    status = 409
    code = "switch-in-progress"
    title = "Another switch is in progress"


class UnusableVariant(RequestError):
    """The variant can't be loaded, or fails its self-test, on this device."""

    status = 500
    code = "unusable-variant"
    title = "The variant can't be used"


class NoAnswer(RequestError):
    """The model gives NaN or infinity for the image."""

    # Not the client's fault: the image is valid, but the model can't cope with it.
    status = 500
    code = "no-answer"
    title = "The model has no answer"


class QueueFull(RequestError):
    """The queue is full, or all memory for waiting or arriving bodies is in use."""

    status = 429
    code = "queue-full"
    title = "The queue is full"


class WaitTooLong(RequestError):
    """No worker would be free before the request's deadline."""

    status = 429
    code = "wait-too-long"
    title = "The wait would be too long"


class DeadlineExceeded(RequestError):
    """The request was accepted, but no worker, or no memory to decode it, was free before its deadline."""

    status = 504
    code = "deadline-exceeded"
    title = "The request waited too long"
