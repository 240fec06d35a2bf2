"""From predictions to the outputs that a request asks for."""

from collections.abc import Sequence

import numpy as np

from service.api.open_inference.messages import (
    OUTPUT,
    InferenceRequest,
    InferenceResponse,
    OutputParameters,
    RequestParameters,
    ResponseOutput,
)
from service.errors import BadInferenceRequest
from service.inference.classifier import Prediction


def asked_output(request: InferenceRequest) -> OutputParameters:
    """Return how the only output is requested.

    Raises:
        BadInferenceRequest: another one is requested, or this one more than once.
    """
    outputs = request.outputs or []
    if len(outputs) > 1 or any(output.name != OUTPUT for output in outputs):
        raise BadInferenceRequest(f"the model has one output, named {OUTPUT}; request that one or none")
    asked = (outputs[0].parameters if outputs else None) or OutputParameters()
    if asked.binary_data is not None:
        return asked
    whole = request.parameters or RequestParameters()
    return asked.model_copy(update={"binary_data": bool(whole.binary_data_output)})


def output_of(
    predictions: Sequence[Prediction], labels: Sequence[str], asked: OutputParameters
) -> tuple[ResponseOutput, bytes]:
    """Return the output, and the binary data to send after the JSON, if any."""
    if asked.classification:
        texts = [_likeliest(prediction, labels, asked.classification) for prediction in predictions]
        shape = [len(texts), len(texts[0])]
        flat = [text for row in texts for text in row]
        if not asked.binary_data:
            return ResponseOutput(name=OUTPUT, datatype="BYTES", shape=shape, data=[*flat]), b""
        encoded = [text.encode() for text in flat]
        data = b"".join(len(element).to_bytes(4, "little") + element for element in encoded)
        return _behind("BYTES", shape, data), data
    probabilities = np.stack([prediction.probabilities for prediction in predictions])
    shape = [*probabilities.shape]
    if not asked.binary_data:
        flat_values = probabilities.ravel().tolist()
        return ResponseOutput(name=OUTPUT, datatype="FP32", shape=shape, data=flat_values), b""
    data = probabilities.astype("<f4", copy=False).tobytes()
    return _behind("FP32", shape, data), data


def written(response: InferenceResponse) -> bytes:
    """Return the response's JSON."""
    return response.model_dump_json(exclude_none=True).encode()


def _behind(datatype: str, shape: list[int], data: bytes) -> ResponseOutput:
    return ResponseOutput(
        name=OUTPUT, datatype=datatype, shape=shape, parameters={"binary_data_size": len(data)}
    )


def _likeliest(prediction: Prediction, labels: Sequence[str], count: int) -> list[str]:
    top = prediction.top(min(count, len(labels)))
    return [f"{probability:f}:{index}:{labels[index]}" for index, probability in top]
