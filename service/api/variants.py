"""GET /v1/variants: the bundle's variants, their measurements, which are loaded; and the switch."""

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.body import READING_ERRORS, read_document
from service.api.context import Context, Shared
from service.api.problems import WRITING_ERRORS, documented
from service.bundle.manifest import (
    BASELINE,
    Comparison,
    Evaluation,
    Latency,
    Precision,
    Proportion,
    Wire,
    comparison_with,
    reference_evaluation,
)
from service.errors import (
    BadParameter,
    InternalError,
    SwitchingDisabled,
    SwitchInProgress,
    Unauthorized,
    UnknownVariant,
    UnusableVariant,
)
from service.inference.runtime import RUNTIME
from service.inference.share import GraphShare

router = APIRouter()


class Images(BaseModel):
    """The images of an evaluation."""

    name: str
    images: int


class Accuracy(BaseModel):
    """Accuracy on one set of labelled images; the manifest has more of it."""

    dataset: Images
    crop: str
    top1: Proportion
    top5: Proportion
    ece: float = Field(description="Expected calibration error of the top-1 probability")
    comparisons: list[Comparison] = Field(description=f"With {BASELINE} on the same images, if there is one")
    reference: bool = Field(description="Whether this is the variant's reference evaluation")


class VariantStatus(BaseModel):
    """One variant of the bundle."""

    name: str
    file: str
    bytes: int
    sha256: str
    wire: Wire | None = Field(
        description="What the bundle holds instead of the file; null if it holds the file"
    )
    precision: Precision
    loaded: bool
    delegate: str | None = Field(description="What it runs on; null if it is not loaded")
    graph: GraphShare | None = Field(
        description="What the delegate took of the graph; `left`: the operators that it did not take, by kind"
    )
    fallback: str | None = Field(description="Why it does not run on the requested delegate")
    runtime: str | None = Field(description="What runs it; null if it is not loaded")
    evaluations: list[Accuracy] = Field(description="The variant's reference evaluation, if there is one")
    latency: Latency | None = Field(description="Measured where the bundle was built, not here")


class VariantList(BaseModel):
    """The bundle's variants."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "bundle": "imagenet-1k",
                    "default": "qat",
                    "active": "qat",
                    "switchable": True,
                    "variants": [
                        {
                            "name": "qat",
                            "file": "qat.tflite",
                            "bytes": 8347136,
                            "sha256": 64 * "0",
                            "wire": None,
                            "precision": "int8",
                            "loaded": True,
                            "delegate": "xnnpack",
                            "graph": {
                                "operators": 267,
                                "taken": 266,
                                "partitions": 1,
                                "left": {"QUANTIZE": 1},
                            },
                            "fallback": None,
                            "runtime": "ai-edge-litert 2.3.0",
                            "evaluations": [],
                            "latency": None,
                        }
                    ],
                }
            ]
        }
    )

    bundle: str
    default: str
    active: str = Field(description="The one that answers if a request names none")
    switchable: bool = Field(description="Whether there is an admin token to switch with")
    variants: list[VariantStatus]


class Wanted(BaseModel):
    """The variant to switch to."""

    model_config = ConfigDict(extra="forbid")

    variant: str = Field(max_length=64, examples=["fp32"])


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Wanted.model_json_schema(), "example": {"variant": "fp32"}}
        },
    }
}
_bearer = HTTPBearer(
    scheme_name="admin_token",
    auto_error=False,
    description="The content of the file EDGEWISE_ADMIN_TOKEN_FILE",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@router.get("/v1/variants", summary="The bundle's variants", responses=documented(InternalError))
async def variants(shared: Shared) -> VariantList:
    """The bundle's variants, the measurements of each, and which one answers."""
    manifest = shared.bundle.manifest
    return VariantList(
        bundle=manifest.name,
        default=manifest.default_variant,
        active=shared.variants.active.name,
        switchable=shared.admin_token is not None,
        variants=[_status(shared, name) for name in manifest.variants],
    )


@router.put(
    "/v1/variants/active",
    summary="Switch the active variant",
    openapi_extra=_BODY,
    responses=documented(
        *(BadParameter, Unauthorized, SwitchingDisabled),
        *WRITING_ERRORS,
        *READING_ERRORS,
        *(UnknownVariant, SwitchInProgress, UnusableVariant),
    ),
)
async def switch_variant(request: Request, credentials: Credentials, shared: Shared) -> VariantList:
    """Load a variant and make it active while requests continue; those already waiting get the previous one.

    It does not survive a restart. Answers like GET /v1/variants.
    """
    _authorize(credentials, shared.admin_token.value if shared.admin_token else None)
    with shared.drain:
        body = await read_document(request, shared.arrivals)
        try:
            wanted = Wanted.model_validate_json(body)
        except ValidationError:
            raise BadParameter('the body must be JSON such as {"variant": "NAME"}') from None
        await shared.switch.to(wanted.variant, request.client.host if request.client else None)
        return await variants(shared)


def _authorize(credentials: HTTPAuthorizationCredentials | None, token: str | None) -> None:
    if token is None:
        raise SwitchingDisabled(
            "this service has no admin token: start it with EDGEWISE_ADMIN_TOKEN_FILE set to the path of a"
            " file that holds one"
        )
    given = credentials.credentials if credentials else ""
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise Unauthorized("the Authorization header must be `Bearer TOKEN`, with the service's admin token")


def _status(shared: Context, name: str) -> VariantStatus:
    variant, loaded = shared.bundle.variant(name), shared.variants.loaded(name)
    evaluation = reference_evaluation(variant.evaluations)
    return VariantStatus(
        name=name,
        file=variant.file,
        bytes=variant.bytes,
        sha256=variant.sha256,
        wire=variant.wire,
        precision=variant.precision,
        loaded=loaded is not None,
        delegate=str(loaded.delegate) if loaded else None,
        graph=loaded.share if loaded else None,
        fallback=loaded.fallback if loaded else None,
        runtime=RUNTIME if loaded else None,
        evaluations=[_accuracy(evaluation)] if evaluation else [],
        latency=variant.latency,
    )


def _accuracy(evaluation: Evaluation) -> Accuracy:
    comparison = comparison_with(evaluation, BASELINE)
    return Accuracy(
        dataset=Images(name=evaluation.dataset.name, images=evaluation.dataset.images),
        crop=evaluation.crop,
        top1=evaluation.top1,
        top5=evaluation.top5,
        ece=evaluation.ece,
        comparisons=[comparison] if comparison else [],
        reference=evaluation.reference,
    )
