"""The schema of a profile: how long each operator of a bundle's variants takes on a device.

`python -m service profile --json FILE` writes one; `service.measuring.profiling` explains how times are
measured. The device and the software are described as in a device's report.
"""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from service.bundle.manifest import BundleName, Frozen, Precision, Ratio, Sha256, VariantName
from service.results.report import Device, Software

SCHEMA_VERSION: Literal[1] = 1

Shape = tuple[NonNegativeInt, ...]


class OperatorProfile(Frozen):
    """One operator of a graph.

    `index`: its place in the graph. `kind`: TFLite's name, such as `CONV_2D`. `layer`: its output tensor's
    name. `inputs` and `outputs`: the shapes of their tensors, including weights. `taken`: by the delegate.

    `p50_seconds`: the median; `share`: of the medians' sum. Both are None if the operator is measured with
    a later one, whose index is `measured_with`.
    """

    index: NonNegativeInt
    kind: str
    layer: str
    inputs: tuple[Shape, ...]
    outputs: Annotated[tuple[Shape, ...], Field(min_length=1)]
    taken: bool
    measured_with: NonNegativeInt | None
    p50_seconds: PositiveFloat | None
    share: Ratio | None

    @model_validator(mode="after")
    def _is_measured_once(self) -> Self:
        apart = self.measured_with is None
        if (self.p50_seconds is not None, self.share is not None) != (apart, apart):
            raise ValueError("an operator must have a time and a share, or be measured with another")
        return self


class VariantProfile(Frozen):
    """One variant. Seconds are medians of `runs` rounds, each of the whole graph and of every operator.

    `p50_seconds`: the whole graph, without encoding pixels. `sum_seconds`: the sum of all operators'
    medians. `sum_ratio`: that divided by the whole graph's median. `operators`: in graph order.
    """

    sha256: Sha256
    bytes: PositiveInt
    precision: Precision
    runs: PositiveInt
    p50_seconds: PositiveFloat
    sum_seconds: PositiveFloat
    sum_ratio: PositiveFloat
    operators: Annotated[tuple[OperatorProfile, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_every_operator_once(self) -> Self:
        if [operator.index for operator in self.operators] != list(range(len(self.operators))):
            raise ValueError("operators must appear once each, in the graph's order")
        apart = {operator.index for operator in self.operators if operator.measured_with is None}
        if not {o.measured_with for o in self.operators if o.measured_with is not None} <= apart:
            raise ValueError("an operator can only be measured with one that has a time")
        return self


class Profile(Frozen):
    """The whole profile; `threads` is the number of threads per inference."""

    schema_version: Literal[1]
    date: date
    device: Device
    software: Software
    threads: PositiveInt
    bundle: BundleName
    variants: Annotated[dict[VariantName, VariantProfile], Field(min_length=1)]
