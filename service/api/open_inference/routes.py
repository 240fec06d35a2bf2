"""The routes under /v2; the model is the bundle, its versions are the variants."""

import sys
import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.admission import ADMISSION_ERRORS, admit, choose, patience
from service.api.body import READING_ERRORS, read_body
from service.api.context import Context, Shared
from service.api.observing import LIKELIEST, observe
from service.api.open_inference.images import Image, images_of
from service.api.open_inference.messages import (
    EXTENSIONS,
    INPUT,
    OUTPUT,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    ModelReady,
    OutputParameters,
    ResponseParameters,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from service.api.open_inference.outputs import asked_output, output_of, written
from service.api.open_inference.reading import most_values, parse, split
from service.api.problems import WRITING_ERRORS, ProtocolProblem, documented
from service.api.stages import stage_seconds
from service.api.work import CLASSIFYING_ERRORS, each_classified
from service.errors import (
    BadInferenceRequest,
    BatchTooLarge,
    Draining,
    InternalError,
    RequestError,
    UnknownModel,
    UnknownVariant,
    VariantNotLoaded,
)
from service.images.pixels import Crop
from service.inference.job import Answer, Job
from service.inference.loading import LoadedVariant
from service.inference.runtime import RUNTIME

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = "application/octet-stream"

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

_HEADER: dict[str, Any] = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Bytes of the JSON, if binary data follows it",
    "schema": {"type": "integer", "minimum": 0},
}
_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "JSON, followed by binary data if `Inference-Header-Content-Length` says so.",
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/InferenceRequest"},
            "examples": {"image": {"value": InferenceRequest.model_json_schema()["examples"][0]}},
        },
        BINARY: {"schema": {"type": "string", "format": "binary"}},
    },
}
_INFERENCE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {HEADER_LENGTH: {"description": _HEADER["description"], "schema": {"type": "integer"}}},
    },
    **documented(
        *(BadInferenceRequest, UnknownModel),
        *WRITING_ERRORS,
        *ADMISSION_ERRORS,
        *READING_ERRORS,
        BatchTooLarge,
        *CLASSIFYING_ERRORS,
        schema=ProtocolProblem,
    ),
}
_MODEL = documented(UnknownModel, InternalError, schema=ProtocolProblem)
_VERSION = documented(UnknownModel, UnknownVariant, InternalError, schema=ProtocolProblem)
_MODEL_READINESS = documented(UnknownModel, InternalError, Draining, schema=ProtocolProblem)
_VERSION_READINESS = documented(
    UnknownModel, UnknownVariant, VariantNotLoaded, InternalError, Draining, schema=ProtocolProblem
)
_SERVER = documented(InternalError, schema=ProtocolProblem)
_SERVER_READINESS = documented(InternalError, Draining, schema=ProtocolProblem)
_INFER: dict[str, Any] = {
    "response_model": InferenceResponse,
    "openapi_extra": {"requestBody": _REQUEST_BODY, "parameters": [_HEADER]},
    "responses": _INFERENCE,
}


@router.get("", summary="The server", responses=_SERVER)
async def server_metadata(request: Request) -> ServerMetadata:
    """The server's name, version and extensions of the protocol."""
    return ServerMetadata(name=request.app.title, version=request.app.version, extensions=[*EXTENSIONS])


@router.get("/health/live", summary="Server liveness", responses=_SERVER)
async def server_live() -> ServerLive:
    """Whether the process answers."""
    return ServerLive(live=True)


@router.get("/health/ready", summary="Server readiness", responses=_SERVER_READINESS)
async def server_ready(shared: Shared) -> ServerReady:
    """Whether the model is warm and the service is not stopping."""
    shared.drain.check()
    return ServerReady(ready=True)


@router.get("/models/{model}", summary="The model", responses=_MODEL)
async def model_metadata(model: str, shared: Shared) -> ModelMetadata:
    """The model's versions and tensors; `image` can also be BYTES [-1], with encoded images."""
    return _metadata(shared, model)


@router.get("/models/{model}/versions/{version}", summary="A version of the model", responses=_VERSION)
async def version_metadata(model: str, version: str, shared: Shared) -> ModelMetadata:
    """The same as of the model: all variants have the same tensors."""
    metadata = _metadata(shared, model)
    shared.variants.check_known(version)
    return metadata


@router.get("/models/{model}/ready", summary="Model readiness", responses=_MODEL_READINESS)
async def model_ready(model: str, shared: Shared) -> ModelReady:
    """Whether the active variant answers."""
    _check_model(shared, model)
    shared.drain.check()
    return ModelReady(name=model, ready=True)


@router.get(
    "/models/{model}/versions/{version}/ready",
    summary="Readiness of a version of the model",
    responses=_VERSION_READINESS,
)
async def version_ready(model: str, version: str, shared: Shared) -> ModelReady:
    """Whether the variant is loaded; 409 if it is not."""
    _check_model(shared, model)
    shared.variants.find(version)
    shared.drain.check()
    return ModelReady(name=model, ready=True)


@router.post("/models/{model}/infer", summary="Classify images", **_INFER)
async def infer(model: str, request: Request, shared: Shared) -> Response:
    """The probabilities of up to `EDGEWISE_BATCH_LIMIT` images, by the active variant."""
    _check_model(shared, model)
    return await _infer(request, shared, None)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Classify images with a version of the model",
    **_INFER,
)
async def version_infer(model: str, version: str, request: Request, shared: Shared) -> Response:
    """The probabilities of up to `EDGEWISE_BATCH_LIMIT` images, by this variant."""
    _check_model(shared, model)
    return await _infer(request, shared, shared.variants.find(version))


@dataclass(frozen=True, slots=True)
class _Options:
    """What a message asks for, without its data, which no memory limit counts while the images wait."""

    id: str | None
    output: OutputParameters
    timeout_ms: float | None


async def _infer(request: Request, shared: Context, named: LoadedVariant | None) -> Response:
    arrived = time.monotonic()
    with shared.drain:
        admit(request, shared, named, arrived + patience(shared, None))
        asked, images = await _read(request, shared)
        whole = time.monotonic()
        variant = choose(request, shared, named)
        deadline = whole + patience(shared, asked.timeout_ms)
        jobs = [Job(variant, image, Crop.BUNDLE, deadline) for image in images]
        del images
        # All or none: if one image has no place, the work on the others would be wasted.
        shared.pool.check(deadline, jobs)
        # Once exhausted, an iterator does not hold the jobs, so that answered ones are freed.
        submitted = iter(jobs)
        del jobs
        answers = _all_of(await each_classified(request, shared.pool, submitted, are_checked=True))
    for number, answer in enumerate(answers):
        prediction = answer.prediction
        observe(shared, f"{request.state.id}#{number}", prediction.variant, prediction.top(LIKELIEST))
    output, behind = output_of([answer.prediction for answer in answers], shared.bundle.labels, asked.output)
    response = InferenceResponse(
        model_name=_name(shared),
        model_version=variant.name,
        id=asked.id,
        parameters=ResponseParameters(answer_id=request.state.id),
        outputs=[output],
    )
    request.state.stages = [
        {**stage_seconds(whole - arrived, answer), "total": time.monotonic() - arrived} for answer in answers
    ]
    text = written(response)
    if not asked.output.binary_data:
        return Response(text, media_type="application/json")
    return Response(text + behind, headers={HEADER_LENGTH: str(len(text))}, media_type=BINARY)


async def _read(request: Request, shared: Context) -> tuple[_Options, list[Image]]:
    limit, preprocessing = shared.settings.batch_limit, shared.bundle.manifest.preprocessing
    text, binary = split(await read_body(request, shared.arrivals), request.headers.get(HEADER_LENGTH))
    message = parse(text, most_values(preprocessing))
    images = images_of(message, binary, preprocessing, limit)
    return _Options(message.id, asked_output(message), _timeout_ms(message)), images


def _timeout_ms(message: InferenceRequest) -> float | None:
    microseconds = message.parameters.timeout if message.parameters else None
    # An integer too large for a float can't be divided; nothing waits that long anyway.
    return min(microseconds, sys.maxsize) / 1000 if microseconds else None


def _all_of(answers: list[Answer | RequestError]) -> list[Answer]:
    """Return the answers, or raise the first error, which names its image if there are several."""
    for number, answer in enumerate(answers):
        if isinstance(answer, RequestError):
            if len(answers) == 1:
                raise answer
            raise type(answer)(
                f"image {number} of {len(answers)}: {answer}", retry_after_seconds=answer.retry_after_seconds
            )
    return [answer for answer in answers if isinstance(answer, Answer)]


def _metadata(shared: Context, model: str) -> ModelMetadata:
    _check_model(shared, model)
    manifest = shared.bundle.manifest
    size = [manifest.preprocessing.height, manifest.preprocessing.width, 3]
    return ModelMetadata(
        name=model,
        versions=[*manifest.variants],
        platform=RUNTIME.partition(" ")[0],
        inputs=[TensorMetadata(name=INPUT, datatype="UINT8", shape=[-1, *size])],
        outputs=[TensorMetadata(name=OUTPUT, datatype="FP32", shape=[-1, manifest.classes])],
    )


def _name(shared: Context) -> str:
    return shared.settings.model_name or shared.bundle.manifest.name


def _check_model(shared: Context, model: str) -> None:
    if model != _name(shared):
        raise UnknownModel(f"there is no model {model[:64]!a}; the model is {_name(shared)}")
