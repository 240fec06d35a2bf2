"""POST /v1/feedback: the true class for an earlier answer."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from service.api.body import READING_ERRORS, read_document
from service.api.context import Shared
from service.api.problems import WRITING_ERRORS, documented
from service.errors import BadParameter, TruthAlreadyTold, UnknownAnswer

router = APIRouter()

_EXAMPLE: dict[str, Any] = {"id": "3b4e844e-48a5-486f-8778-e5e48c58117a", "label": "n02123045"}


class Truth(BaseModel):
    """What an image really shows."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    id: StrictStr = Field(max_length=64, description="The answer's `id`")
    label: StrictInt | StrictStr = Field(
        description="A class id, an index, or a label that only one class has"
    )


class Counted(BaseModel):
    """Whether the answer was right."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": _EXAMPLE["id"], "variant": "qat", "label": 281, "top1": True, "top5": True}]
        }
    )

    id: str
    variant: str = Field(description="The variant that answered")
    label: int = Field(description="The true class's index")
    top1: bool = Field(description="Whether it was the most probable")
    top5: bool = Field(description="Whether it was among the five most probable")


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": Truth.model_json_schema(), "example": _EXAMPLE}},
    }
}


@router.post(
    "/v1/feedback",
    summary="Report the true class of an answer",
    openapi_extra=_BODY,
    responses=documented(BadParameter, *WRITING_ERRORS, *READING_ERRORS, UnknownAnswer, TruthAlreadyTold),
)
async def feedback(request: Request, shared: Shared) -> Counted:
    """Count whether an answer was right, once that is known; only the most recent answers are remembered."""
    with shared.drain:
        body = await read_document(request, shared.arrivals)
        try:
            truth = Truth.model_validate_json(body)
        except ValidationError:
            raise BadParameter(
                'the body must be JSON such as {"id": "ID OF THE ANSWER", "label": 281}; a label is an'
                " index, or a string with a class id or a label"
            ) from None
        label = shared.labels.index(truth.label)
        variant, place = shared.feedback.tell(truth.id, label)
        return Counted(id=truth.id, variant=variant, label=label, top1=place == 1, top5=place is not None)
