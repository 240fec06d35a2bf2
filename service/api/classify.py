"""POST /v1/classify: one image in, its classes out."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request, Response
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict

from service.api.admission import ADMISSION_ERRORS, admit, choose, patience
from service.api.body import READING_ERRORS, read_image
from service.api.context import Context, Shared
from service.api.direct import DirectRoute
from service.api.observing import LIKELIEST, observe
from service.api.problems import WRITING_ERRORS, documented
from service.api.stages import milliseconds, stage_seconds
from service.api.work import CLASSIFYING_ERRORS, classified
from service.errors import BadMultipart, BadParameter, EmptyBody
from service.images.pixels import Crop
from service.inference.job import Answer, Job

DEFAULT_TOP_K = 5

router = APIRouter(route_class=DirectRoute)


class Parameters(BaseModel):
    """The query parameters of a request."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    top_k: int | None = Field(
        None, ge=1, description=f"How many classes to name: {DEFAULT_TOP_K}, or all if there are fewer"
    )
    variant: str | None = Field(None, max_length=64, description="A loaded variant; default: the active one")
    crop: Crop = Field(
        Crop.BUNDLE, description="`bundle`: the bundle's crop of the image; `none`: the whole image, squashed"
    )
    timeout_ms: int | None = Field(
        None, ge=1, description="Milliseconds that it can wait for a worker, if fewer than the service's own"
    )
    min_probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The answer is `uncertain` if the top class is less probable; default: the service's own",
    )

    @field_validator("top_k", "timeout_ms", "min_probability", mode="before")
    @classmethod
    def _is_written_plainly(cls, value: str, info: ValidationInfo) -> str:
        # Python would read 1_0 as 10.
        if "_" in value:
            raise ValueError(
                f"{info.field_name} is {value[:64]!a}, but it should be a number without underscores"
            )
        return value

    @model_validator(mode="before")
    @classmethod
    def _are_known(cls, given: dict[str, Any]) -> dict[str, Any]:
        unknown = [name for name in given if name not in cls.model_fields]
        if unknown:
            raise ValueError(
                f"there is no parameter {unknown[0][:64]!a}; the parameters are {', '.join(cls.model_fields)}"
            )
        return given


class LabelledParameters(Parameters):
    """The query parameters of a request with one image."""

    # Comparing labels takes time with the square of their length if they have very many accents.
    label: str | None = Field(
        None,
        max_length=1024,
        description="What the image really shows, if known: a class id, an index, or a label that only"
        " one class has",
    )


# Answers are dictionaries: making and checking a model of each part takes longer than writing the JSON.
class ClassProbability(TypedDict):
    """One class of the answer."""

    index: int
    class_id: Annotated[str | None, Field(description="Such as a WordNet id; null if the bundle has none")]
    label: str
    probability: float


class Timing(TypedDict):
    """Milliseconds that each stage took."""

    read: float
    queue: float
    decode: float
    inference: float


CLASSIFICATION_EXAMPLE: dict[str, Any] = {
    "id": "3b4e844e-48a5-486f-8778-e5e48c58117a",
    "bundle": "imagenet-1k",
    "variant": "qat",
    "crop": "bundle",
    "uncertain": False,
    "predictions": [
        {"index": 281, "class_id": "n02123045", "label": "tabby, tabby cat", "probability": 0.4921875}
    ],
    "timing_ms": {"read": 0.125, "queue": 0.078, "decode": 2.439, "inference": 6.044},
}


@with_config(ConfigDict(json_schema_extra={"examples": [CLASSIFICATION_EXAMPLE]}))
class Classification(TypedDict):
    """The answer: the most probable classes, the first one first."""

    id: Annotated[str, Field(description="Unguessable ID of this answer; the log has it too")]
    bundle: str
    variant: str
    crop: Crop
    uncertain: Annotated[
        bool, Field(description="Whether the top class is less probable than `min_probability`")
    ]
    predictions: list[ClassProbability]
    timing_ms: Timing


_classification = TypeAdapter(Classification)

_IMAGE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY = {
    "required": True,
    "description": "The image file, as the body or a form's only part; its type is detected by content.",
    "content": {
        "image/*": _IMAGE,
        "application/octet-stream": _IMAGE,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {"image": {"type": "string", "format": "binary"}},
            }
        },
    },
}


@router.post(
    "/v1/classify",
    summary="Classify an image",
    response_model=Classification,
    openapi_extra={"requestBody": _REQUEST_BODY},
    responses=documented(
        *(EmptyBody, BadMultipart, BadParameter),
        *WRITING_ERRORS,
        *ADMISSION_ERRORS,
        *READING_ERRORS,
        *CLASSIFYING_ERRORS,
    ),
)
async def classify(
    request: Request, parameters: Annotated[LabelledParameters, Query()], shared: Shared
) -> Response:
    """The image's most probable classes, the time of each stage, and which variant answered."""
    arrived = time.monotonic()
    with shared.drain:
        top_k = asked_top_k(parameters, shared.bundle.manifest.classes)
        label = None if parameters.label is None else shared.labels.index(parameters.label)
        named = shared.variants.find(parameters.variant)
        seconds = patience(shared, parameters.timeout_ms)
        admit(request, shared, named, arrived + seconds)
        data = await read_image(request, shared.arrivals)
        whole = time.monotonic()
        job = Job(choose(request, shared, named), data, parameters.crop, deadline=whole + seconds)
        answer = await classified(request, shared.pool, job)
    stages = stage_seconds(whole - arrived, answer)
    likeliest = answer.prediction.top(max(top_k, LIKELIEST))
    variant, least = answer.prediction.variant, parameters.min_probability
    uncertain = observe(shared, request.state.id, variant, likeliest, least, label)
    classification = described(
        shared, answer, request.state.id, parameters.crop, likeliest[:top_k], uncertain, stages
    )
    request.state.stages = [{**stages, "total": time.monotonic() - arrived}]
    timing = classification["timing_ms"]
    server_timing = ", ".join([f"{stage};dur={took}" for stage, took in timing.items()])
    return Response(
        _classification.dump_json(classification),
        headers={"Server-Timing": server_timing},
        media_type="application/json",
    )


def asked_top_k(parameters: Parameters, classes: int) -> int:
    """Return how many classes to name; raises BadParameter if the model has fewer."""
    if parameters.top_k is None:
        return min(DEFAULT_TOP_K, classes)
    if parameters.top_k > classes:
        raise BadParameter(f"top_k exceeds the number of the model's classes, {classes}")
    return parameters.top_k


def described(
    shared: Context,
    answer: Answer,
    id_: str,
    crop: Crop,
    top: list[tuple[int, float]],
    uncertain: bool,
    stages: Mapping[str, float],
) -> Classification:
    """Return the answer's document; `top`: the classes to name, the most probable first."""
    return Classification(
        id=id_,
        bundle=shared.bundle.manifest.name,
        variant=answer.prediction.variant,
        crop=crop,
        uncertain=uncertain,
        predictions=_predictions(shared, top),
        timing_ms=cast(Timing, milliseconds(stages)),
    )


def _predictions(shared: Context, top: list[tuple[int, float]]) -> list[ClassProbability]:
    bundle = shared.bundle
    return [
        ClassProbability(
            index=index,
            class_id=bundle.class_ids[index] if bundle.class_ids else None,
            label=bundle.labels[index],
            probability=probability,
        )
        for index, probability in top
    ]
