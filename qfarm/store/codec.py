"""Between schema models and BSON documents, without loss.

Arrays become ``{"dtype": "<f8", "shape": [3, 3], "data": <bytes>}``, little-endian, row by row.
Times become ISO 8601 text in UTC, as FireWorks writes them, because BSON dates drop microseconds.
What BSON cannot hold (lone surrogates in captured output, integers beyond 64 bits, NUL in keys)
is written in the nearest form that it can.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from qfarm.errors import StoreError
from qfarm_schemas.base import Model

_M = TypeVar("_M", bound=Model)

_ARRAY: Final = frozenset({"dtype", "shape", "data"})
_INT64: Final = 2**63
_AS_IT_IS: Final = frozenset({float, bool, type(None), bytes})


class UnreadableError(StoreError):
    """A document is not what qfarm wrote."""


def encode(model: Model) -> dict[str, Any]:
    """Document of a model."""
    document: dict[str, Any] = _encode(model.model_dump(mode="python"))
    return document


def encode_flat(model: Model) -> dict[str, Any]:
    """Document of a model that holds no other model: the same as `encode`, in half of the time."""
    return {name: _encode(getattr(model, name)) for name in type(model).model_fields}


def decode(kind: type[_M], document: Mapping[str, Any]) -> _M:
    """Model of a document that `encode` made.

    Raises
    ------
    ValueError
        The document is not of this kind; pydantic's ValidationError is one.
    """
    try:
        return kind.model_validate(_decode(document))
    except (TypeError, LookupError, AttributeError, ArithmeticError, SyntaxError) as error:
        # of NumPy and of validators, which know only documents that `encode` made
        raise ValueError(f"{type(error).__name__}: {error}") from error


def is_array(value: Any) -> bool:
    """Whether part of a document is an array as `encode` writes it."""
    return (
        isinstance(value, Mapping) and value.keys() == _ARRAY and isinstance(value["data"], bytes)
    )


def _encode(value: Any) -> Any:
    """By exact type, because a record has hundreds of parts; what is rare goes the long way."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is str:
        return value if value.isascii() else _text(value)
    if kind is dict:
        return {_key(key): _encode(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_encode(item) for item in value]
    return _encode_rare(value)


def _encode_rare(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if isinstance(value, Mapping):
        return {_key(key): _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        return str(value)
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, Mapping):
        if is_array(value):
            return _decode_array(value)
        return {key: _decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _encode_array(array: NDArray[Any]) -> dict[str, Any]:
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {
        "dtype": ordered.dtype.str,
        "shape": list(array.shape),
        "data": ordered.tobytes(),
    }


def _decode_array(value: Mapping[str, Any]) -> NDArray[Any]:
    array: NDArray[Any] = np.frombuffer(value["data"], dtype=np.dtype(value["dtype"]))
    return array.reshape(value["shape"])


@lru_cache(maxsize=4096)
def _key(key: str) -> str:
    return _text(key).replace("\0", "\\0")


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
