"""POST /v1/classify/batch: several images in, an answer or a problem for each out."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from service.api.admission import ADMISSION_ERRORS, admit, choose, patience
from service.api.body import READING_ERRORS, read_images
from service.api.classify import (
    CLASSIFICATION_EXAMPLE,
    Classification,
    Parameters,
    asked_top_k,
    described,
)
from service.api.context import Shared
from service.api.direct import DirectRoute
from service.api.observing import LIKELIEST, observe
from service.api.problems import PROBLEM_EXAMPLE, WRITING_ERRORS, Problem, documented, problem_document
from service.api.stages import stage_seconds
from service.api.work import each_classified
from service.errors import BadMultipart, BadParameter, BatchTooLarge, EmptyBody, RequestError
from service.inference.job import Job

router = APIRouter(route_class=DirectRoute)


class Unanswered(BaseModel):
    """Instead of a classification: why there is none."""

    problem: Problem


class BatchAnswer(BaseModel):
    """The result for each image, in the form's order."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"results": [CLASSIFICATION_EXAMPLE, {"problem": PROBLEM_EXAMPLE}]}]}
    )

    results: list[Classification | Unanswered]


_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "A form whose parts are image files, all named `image`; types are detected by content.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {
                    "image": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "format": "binary"},
                    }
                },
            }
        }
    },
}


@router.post(
    "/v1/classify/batch",
    summary="Classify several images",
    response_model=BatchAnswer,
    openapi_extra={"requestBody": _REQUEST_BODY},
    responses=documented(
        BadMultipart, BadParameter, *WRITING_ERRORS, *ADMISSION_ERRORS, *READING_ERRORS, BatchTooLarge
    ),
)
async def classify_batch(
    request: Request, parameters: Annotated[Parameters, Query()], shared: Shared
) -> Response:
    """Each image's most probable classes, or its problem; each takes its own place in the queue."""
    arrived = time.monotonic()
    with shared.drain:
        top_k = asked_top_k(parameters, shared.bundle.manifest.classes)
        named = shared.variants.find(parameters.variant)
        seconds = patience(shared, parameters.timeout_ms)
        admit(request, shared, named, arrived + seconds)
        images = await read_images(request, shared.arrivals, shared.settings.batch_limit)
        whole = time.monotonic()
        variant = choose(request, shared, named)
        deadline = whole + seconds
        # A generator: a list would keep refused and answered images in memory.
        jobs = (
            Job(variant, image, parameters.crop, deadline)
            if image
            else EmptyBody("this part of the form is empty")
            for image in images
        )
        del images
        answers = await each_classified(request, shared.pool, jobs)
    request.state.errors = [answer for answer in answers if isinstance(answer, RequestError)]
    request.state.stages = []
    results: list[Classification | Unanswered] = []
    for number, answer in enumerate(answers):
        id_ = f"{request.state.id}#{number}"
        if isinstance(answer, RequestError):
            results.append(Unanswered(problem=problem_document(answer, id_)))
        else:
            stages = stage_seconds(whole - arrived, answer)
            likeliest = answer.prediction.top(max(top_k, LIKELIEST))
            least = parameters.min_probability
            uncertain = observe(shared, id_, answer.prediction.variant, likeliest, least)
            results.append(
                described(shared, answer, id_, parameters.crop, likeliest[:top_k], uncertain, stages)
            )
            request.state.stages.append({**stages, "total": time.monotonic() - arrived})
    return Response(
        BatchAnswer.model_construct(results=results).model_dump_json(), media_type="application/json"
    )
