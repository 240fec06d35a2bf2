"""The types of the options' values: each parses text, or raises an error that says what is expected."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from service.bundle.manifest import PerChannel, VariantName
from service.inference.delegates import Delegate, parse_delegate

# EfficientNetV2 halves the input five times.
_LEAST_SIZE = 32

_Number = TypeVar("_Number", int, float)


def _number(
    kind: Callable[[str], _Number], holds: Callable[[_Number], bool], wanted: str
) -> Callable[[str], _Number]:
    """Return a `type` for an option: a number that `holds` accepts; `wanted` describes it in the error."""

    def parse(text: str) -> _Number:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from None
        if not holds(value):
            raise argparse.ArgumentTypeError(f"{text} is not {wanted}")
        return value

    return parse


COUNT = _number(int, lambda n: n >= 1, "a whole number of at least 1")
SEVERAL = _number(int, lambda n: n >= 2, "a whole number of at least 2")
COUNT_OR_NONE = _number(int, lambda n: n >= 0, "a whole number of at least 0")
SIZE = _number(int, lambda n: n >= _LEAST_SIZE, f"a whole number of at least {_LEAST_SIZE}")
FINITE = _number(float, math.isfinite, "a number")
POSITIVE = _number(float, lambda x: 0 < x < math.inf, "a number above 0")
MEGABYTES = _number(float, lambda x: 0 < x <= 1000, "a number above 0 and at most 1000")
WEIGHT = _number(float, lambda x: 0 <= x < math.inf, "a number of at least 0")
SHARE = _number(float, lambda x: 0 < x <= 1, "a number above 0 and at most 1")
LARGE_SHARE = _number(float, lambda x: 0 <= x < 1, "a number of at least 0 and below 1")
FEW_BITS = _number(int, lambda n: 2 <= n <= 8, "a whole number from 2 to 8")


def names(text: str) -> list[str]:
    """Split text at commas, without the spaces around its parts, empty parts and duplicates."""
    found = list(dict.fromkeys(stripped for part in text.split(",") if (stripped := part.strip())))
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no variant")
    return found


def per_channel(parse: Callable[[str], float]) -> Callable[[str], PerChannel]:
    """Return a `type` for an option: one number, or three separated by commas."""

    def parse_all(text: str) -> PerChannel:
        match [parse(part) for part in text.split(",")]:
            case [value]:
                return value
            case [red, green, blue]:
                return red, green, blue
        raise argparse.ArgumentTypeError(f"{text} is neither one number nor three, as in 1,2,3")

    return parse_all


def named_file(text: str) -> tuple[str | None, Path]:
    """Parse NAME=FILE; FILE alone, or text with a slash before the `=`, is a path with None as its name."""
    name, given, file = text.partition("=")
    if not given or "/" in name:
        return None, Path(text)
    try:
        return TypeAdapter(VariantName).validate_python(name), Path(file)
    except ValidationError:
        raise argparse.ArgumentTypeError(
            f"{name!r} can't be a variant's name: use lower-case letters, digits, - and _,"
            " and start with a letter or digit"
        ) from None


def delegate(name: str) -> Delegate:
    """Parse a delegate as `EDGEWISE_DELEGATE` names it."""
    try:
        return parse_delegate(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{name!r} {error}") from None
