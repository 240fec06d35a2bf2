"""Every error that edgewise raises on purpose.

EdgewiseError
├── StartError              the service can't start; one line that says what to do
│   ├── SettingsError       a setting is unknown or has a bad value       (settings)
│   ├── BundleError         the bundle is missing, damaged or not signed  (bundle, signature)
│   ├── DelegateError       a delegate can't be loaded or does not do     (inference.delegates)
│   ├── OperatorError       nothing here computes a model's operator      (inference.interpreter)
│   ├── SelfTestError       the golden vectors do not hold on this device (inference.golden)
│   ├── DatasetError        a folder of labelled images can't be used     (measuring.labelled)
│   └── WorkerHung          a worker does not come back from an image     (server.run)
└── RequestError            one request can't be answered; becomes a problem document
    ├── InvalidHttp         400  the request breaks HTTP's own rules      (server.rules, protocol)
    ├── EmptyBody           400  the body has no bytes                    (api)
    ├── Unauthorized        401  the right key or token is not there      (api)
    ├── SwitchingDisabled   403  the service has no admin token           (api)
    ├── BadMultipart        400  the form can't be parsed or has no image (api)
    ├── BadInferenceRequest 400  an inference request breaks the protocol (api)
    ├── UnknownRoute        404  no such path                             (api)
    ├── UnknownAnswer       404  no such answer is remembered             (monitoring.feedback)
    ├── UnknownModel        404  the model served has another name        (api)
    ├── MethodNotAllowed    405  the path is not for this method          (api)
    ├── SlowBody            408  the body did not arrive in time          (api)
    ├── TruthAlreadyTold    409  the truth about it was told before       (monitoring.feedback)
    ├── BodyTooLarge        413  more bytes than the limit                (api)
    ├── BatchTooLarge       413  more images than the limit               (api, inference.pool)
    ├── EncodedBody         415  the body has a content coding            (api)
    ├── BadParameter        422  a query parameter has a bad value        (api)
    ├── HeadTooLarge        431  first line and headers have too many     (protocol)
    ├── InternalError       500  anything that was not foreseen           (api)
    ├── Draining            503  the service is stopping                  (api)
    ├── TooManyConnections  503  every connection is in use               (protocol)
    ├── ImageTooLarge       413  more pixels than the limit               (images.pixels)
    ├── UnsupportedImage    415  not an image format that is read         (images.pixels)
    ├── CorruptImage        422  truncated or damaged image data          (images.pixels)
    ├── UnknownVariant      404  the bundle has no such variant           (inference.variants)
    ├── VariantNotLoaded    409  it has, but it is not loaded             (inference.variants)
    ├── SwitchInProgress    409  another switch is not done yet           (switching)
    ├── UnusableVariant     500  it can't be loaded on this device        (switching)
    ├── NoAnswer            500  the model gives no numbers for the image (inference.classifier)
    ├── QueueFull           429  every place in the queue is taken        (inference.pool, api)
    ├── WaitTooLong         429  it would wait beyond its deadline        (inference.pool)
    └── DeadlineExceeded    504  no worker was free before its deadline   (inference.job)
"""

from collections.abc import Mapping
from typing import ClassVar


class EdgewiseError(Exception):
    """Base of every error raised on purpose; `str(error)` is one line for a person."""


class StartError(EdgewiseError):
    """The program can't go on; it ends with this one line."""


class SettingsError(StartError):
    """A setting is unknown or has a bad value."""


class BundleError(StartError):
    """A bundle is missing, damaged, incomplete, not signed as it is to be, or can't be written."""


class DelegateError(StartError):
    """A delegate can't be loaded, or does not do for a model."""


class OperatorError(StartError):
    """A model has an operator that neither the runtime nor the delegate computes."""


class SelfTestError(StartError):
    """A variant does not compute its golden vectors on this device."""


class DatasetError(StartError):
    """A folder of labelled images can't be used for what was asked."""


class WorkerHung(StartError):
    """A worker does not come back from an image: only a new process helps."""


class RequestError(EdgewiseError):
    """One request can't be answered.

    `status` is the HTTP status, `code` the last part of the problem's stable `type`,
    `title` its fixed one-line summary, `headers` what every such answer has.
    `retry_after_seconds` says when the same request may succeed, where that is known.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class InvalidHttp(RequestError):
    """The request breaks HTTP's own rules, or is no HTTP at all."""

    status = 400
    code = "invalid-http"
    title = "The request is not valid HTTP"


class EmptyBody(RequestError):
    """The body has no bytes."""

    status = 400
    code = "empty-body"
    title = "The request has no image"


class Unauthorized(RequestError):
    """The right API key, or admin token, is not there."""

    status = 401
    code = "unauthorized"
    title = "The right key or token is needed"
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class SwitchingDisabled(RequestError):
    """The service was not told who may switch."""

    status = 403
    code = "switching-disabled"
    title = "Switching is disabled"


class BadMultipart(RequestError):
    """The multipart form can't be parsed, or has no part named `image`."""

    status = 400
    code = "bad-multipart"
    title = "The multipart form can't be used"


class BadInferenceRequest(RequestError):
    """A request of the Open Inference Protocol is not as the protocol, or the model, has it."""

    status = 400
    code = "bad-inference-request"
    title = "The inference request can't be used"


class UnknownAnswer(RequestError):
    """There was no answer of this id, or it is no longer remembered."""

    status = 404
    code = "unknown-answer"
    title = "There is no such answer"


class TruthAlreadyTold(RequestError):
    """The truth about this answer was told before."""

    status = 409
    code = "truth-already-told"
    title = "The truth was told before"


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
    """The path is there, but not for this method."""

    status = 405
    code = "method-not-allowed"
    title = "The route does not take this method"


class SlowBody(RequestError):
    """The body did not arrive whole in time."""

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
    """The body has a content coding, such as gzip; none is taken."""

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
    """The request's first line and headers have more bytes than the limit."""

    status = 431
    code = "head-too-large"
    title = "The request's head is too large"


class InternalError(RequestError):
    """Something happened that was not foreseen; the log has it, the answer does not."""

    status = 500
    code = "internal-error"
    title = "The service failed"


class Draining(RequestError):
    """The service is stopping and takes nothing new."""

    status = 503
    code = "draining"
    title = "The service is stopping"


class TooManyConnections(RequestError):
    """Every connection that the service takes is in use."""

    status = 503
    code = "too-many-connections"
    title = "There are too many connections"


class ImageTooLarge(RequestError):
    """The image has more pixels, or would take more memory to decode, than the limit."""

    status = 413
    code = "image-too-large"
    title = "The image has too many pixels"


class UnsupportedImage(RequestError):
    """The bytes are not in an image format that is read."""

    status = 415
    code = "unsupported-image"
    title = "The image format is not supported"


class CorruptImage(RequestError):
    """The image is truncated or damaged."""

    status = 422
    code = "corrupt-image"
    title = "The image is damaged"


class UnknownVariant(RequestError):
    """The request names a variant that the bundle has not."""

    status = 404
    code = "unknown-variant"
    title = "There is no such variant"


class VariantNotLoaded(RequestError):
    """The request names a variant of the bundle that is not loaded."""

    status = 409
    code = "variant-not-loaded"
    title = "The variant is not loaded"


class SwitchInProgress(RequestError):
    """The service is loading the variant of another switch."""

    status = 409
    code = "switch-in-progress"
    title = "Another switch is in progress"


class UnusableVariant(RequestError):
    """The variant can't be loaded, or does not pass its self-test, on this device."""

    status = 500
    code = "unusable-variant"
    title = "The variant can't be used"


class NoAnswer(RequestError):
    """The model gives no numbers for the image: NaN, or infinity."""

    # Not the client's fault: the image is one like any other, and it is the model that can't cope with it.
    status = 500
    code = "no-answer"
    title = "The model has no answer"


class QueueFull(RequestError):
    """Every place in the queue, or all memory for what waits or arrives, is taken."""

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
