"""Read-only float64 and integer arrays as pydantic field types."""

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def _floats(value: Any) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, OverflowError) as error:  # pydantic reports ValueError alone
        raise ValueError(f"expected numbers: {error}") from error


def _vectors(value: Any) -> NDArray[np.float64]:
    array = _floats(value)
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"expected shape (n, 3), found {array.shape}")
    return _frozen(array)


def _vector(value: Any) -> NDArray[np.float64]:
    array = _floats(value)
    if array.shape != (3,):
        raise ValueError(f"expected shape (3,), found {array.shape}")
    return _frozen(array)


def _scalars(value: Any) -> NDArray[np.float64]:
    array = _floats(value)
    if array.ndim != 1:
        raise ValueError(f"expected shape (n,), found {array.shape}")
    return _frozen(array)


def _numbers(value: Any) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError("expected a non-empty list of atomic numbers")
    if array.min() < 1 or array.max() > 118:
        raise ValueError("atomic numbers lie between 1 and 118")
    return _frozen(array.astype(np.int64))


def _to_list(array: NDArray[Any]) -> list[Any]:
    result: list[Any] = array.tolist()
    return result


_LIST = PlainSerializer(_to_list, when_used="json")
_ROW = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}

Vectors = Annotated[
    InstanceOf[np.ndarray[Any, Any]],
    BeforeValidator(_vectors),
    _LIST,
    WithJsonSchema({"type": "array", "items": _ROW}),
]
"""float64, shape (n, 3)."""

Vector = Annotated[
    InstanceOf[np.ndarray[Any, Any]], BeforeValidator(_vector), _LIST, WithJsonSchema(_ROW)
]
"""float64, shape (3,)."""

Scalars = Annotated[
    InstanceOf[np.ndarray[Any, Any]],
    BeforeValidator(_scalars),
    _LIST,
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
"""float64, shape (n,)."""

Numbers = Annotated[
    InstanceOf[np.ndarray[Any, Any]],
    BeforeValidator(_numbers),
    _LIST,
    WithJsonSchema(
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 1, "maximum": 118},
        }
    ),
]
"""Atomic numbers, int64, shape (n,)."""
