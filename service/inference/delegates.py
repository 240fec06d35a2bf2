"""What computes a variant's graph."""

from enum import StrEnum


class Delegate(StrEnum):
    """`xnnpack`: the CPU by XNNPACK's kernels; `none`: the CPU by the runtime's built-in ones."""

    XNNPACK = "xnnpack"
    NONE = "none"
