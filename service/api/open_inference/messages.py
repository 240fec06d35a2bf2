"""The protocol's messages; unknown members and parameters are ignored, as in Triton."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import SkipJsonSchema

INPUT = "image"
OUTPUT = "probabilities"
EXTENSIONS = ("binary_tensor_data", "classification")

# Longer lists are refused at once: a thousand wrong elements would take the memory of a thousand errors.
_MOST = 8

# Characters of an `id`, which the answer repeats.
MAX_ID = 256

# A white PNG of 1 × 1 pixel.
_WHITE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
_MODEL: dict[str, Any] = {"model_name": "imagenet-1k", "model_version": "qat"}


class ServerMetadata(BaseModel):
    """The server, and the protocol extensions that it supports."""

    name: str = Field(examples=["edgewise"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[[*EXTENSIONS]])


class TensorMetadata(BaseModel):
    """One tensor; -1 in its shape is for any number of images up to the limit."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The model: its versions are the bundle's variants."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "imagenet-1k",
                    "versions": ["fp32", "qat"],
                    "platform": "ai-edge-litert",
                    "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, 224, 224, 3]}],
                    "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 1000]}],
                }
            ]
        }
    )

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = Field(examples=[True])


class ServerReady(BaseModel):
    """The server takes requests."""

    ready: bool = Field(examples=[True])


class ModelReady(BaseModel):
    """The model takes requests."""

    name: str = Field(examples=["imagenet-1k"])
    ready: bool = Field(examples=[True])


class _Received(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class RequestParameters(_Received):
    """Parameters of a whole request."""

    timeout: int | None = Field(
        None,
        ge=0,
        description="Microseconds that each image can wait for a worker; 0: the service's own limit",
    )
    binary_data_output: bool | None = Field(None, description="Whether outputs come as binary data")


class InputParameters(_Received):
    """Parameters of an input."""

    binary_data_size: int | None = Field(
        None, ge=0, description="Bytes of its data after the JSON, instead of `data`"
    )
    content_type: str | None = Field(None, description="`base64`: the encoding of the strings in `data`")


class OutputParameters(_Received):
    """Parameters of an output."""

    binary_data: bool | None = Field(None, description="Whether it comes as binary data")
    classification: int | None = Field(
        None, ge=0, description="Return only this many of the most probable classes, as `value:index:label`"
    )


class RequestInput(_Received):
    """The images: pixels as UINT8 [n, height, width, 3], or files as BYTES [n] or [n, 1]."""

    name: str
    shape: list[int] = Field(max_length=_MOST)
    datatype: str
    parameters: InputParameters | None = None
    data: list[Any] | None = Field(None, description="Row by row, nested or flat")


class RequestOutput(_Received):
    """A requested output."""

    name: str
    parameters: OutputParameters | None = None


class InferenceRequest(_Received):
    """A request to infer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "42",
                    "inputs": [
                        {
                            "name": INPUT,
                            "datatype": "BYTES",
                            "shape": [1],
                            "parameters": {"content_type": "base64"},
                            "data": [_WHITE],
                        }
                    ],
                    "outputs": [{"name": OUTPUT, "parameters": {"classification": 3}}],
                }
            ]
        }
    )

    id: str | None = Field(None, max_length=MAX_ID, description="Echoed")
    parameters: RequestParameters | None = None
    inputs: list[RequestInput] = Field(max_length=_MOST)
    outputs: list[RequestOutput] | None = Field(None, max_length=_MOST)


class ResponseOutput(BaseModel):
    """One output: `probabilities` as FP32 [n, classes], or its classification as BYTES [n, k]."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | SkipJsonSchema[None] = Field(
        None, description="`binary_data_size` if the data follows the JSON"
    )
    data: list[JsonValue] | SkipJsonSchema[None] = None


class ResponseParameters(BaseModel):
    """Parameters of the response."""

    answer_id: str = Field(
        description="The service's ID. For /v1/feedback, append `#` and the image's number, from 0"
    )


class InferenceResponse(BaseModel):
    """The answer of an inference; members that it does not have are omitted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                _MODEL
                | {
                    "id": "42",
                    "parameters": {"answer_id": "3b4e844e-48a5-486f-8778-e5e48c58117a"},
                    "outputs": [
                        {
                            "name": OUTPUT,
                            "datatype": "BYTES",
                            "shape": [1, 1],
                            "data": ["0.492188:281:tabby, tabby cat"],
                        }
                    ],
                }
            ]
        }
    )

    model_name: str
    model_version: str
    id: str | SkipJsonSchema[None] = None
    parameters: ResponseParameters
    outputs: list[ResponseOutput]
