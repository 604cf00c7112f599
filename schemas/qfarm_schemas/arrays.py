"""Read-only float64 and integer arrays as pydantic field types, and matrices packed into bytes.

In JSON vectors are lists; matrices, which have a million numbers, are packed: ::

    {"dtype": "<f8", "shape": [310, 310], "form": "lower", "data": "<base64>"}

``form`` is "full" (row by row) or, for a matrix that is symmetric to the last bit, "lower": its
lower triangle, row by row, with the diagonal. Little-endian.
"""

import binascii
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

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


def _matrix(value: Any) -> NDArray[np.float64]:
    array = _floats(_unpacked(value) if isinstance(value, Mapping) else value)
    if array.ndim not in (2, 3) or array.shape[-1] != array.shape[-2] or not array.size:
        raise ValueError(f"expected shape (n, n) or (2, n, n), found {array.shape}")
    if array.ndim == 3 and len(array) != 2:
        raise ValueError(f"expected matrices of two spins, found {len(array)}")
    return array if _cannot_change(array) else _frozen(array)


def _functions(value: Any) -> NDArray[np.int32]:
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[1] != 4 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"expected whole numbers of shape (n, 4), found {array.shape}")
    return _frozen(array.astype(np.int32))


def _cannot_change(array: NDArray[Any]) -> bool:
    """Whether an array is one that was frozen before, which needs no copy."""
    return not array.flags.writeable and array.base is None


def pack(array: NDArray[Any]) -> tuple[str, bytes]:
    r"""Form and bytes of an array: half of it when it is symmetric to the last bit.

    Examples
    --------
    >>> pack(np.array([[1, 2], [2, 3]], "|i1"))
    ('lower', b'\x01\x02\x03')
    >>> pack(np.array([[1, 2], [0, 3]], "|i1"))
    ('full', b'\x01\x02\x00\x03')
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if not _is_symmetric(little):
        return FULL, little.tobytes()
    rows, columns = np.tril_indices(little.shape[-1])
    return LOWER, little[..., rows, columns].tobytes()


def unpack(form: str, data: bytes, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Array that `pack` was given.

    Raises
    ------
    ValueError
        The bytes are not of such an array.
    """
    flat: NDArray[Any] = np.frombuffer(data, np.dtype(dtype))
    if form == FULL:
        return flat.reshape(shape)
    if form != LOWER or len(shape) < 2 or shape[-1] != shape[-2]:
        raise ValueError(f"there is no form {form!r} of shape {list(shape)}")
    rows, columns = np.tril_indices(shape[-1])
    array: NDArray[Any] = np.empty(shape, flat.dtype)
    array[..., rows, columns] = flat.reshape(*shape[:-2], len(rows))
    array[..., columns, rows] = array[..., rows, columns]
    return array


def packed_size(form: str, dtype: str, shape: Sequence[int]) -> int:
    """Bytes of an array in this form."""
    pairs = shape[-1] * (shape[-1] + 1) // 2 if form == LOWER else 0
    count = math.prod(shape[:-2]) * pairs if form == LOWER else math.prod(shape)
    return count * np.dtype(dtype).itemsize


def _is_symmetric(array: NDArray[Any]) -> bool:
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or not array.size:
        return False
    bits = array.view(np.dtype(f"u{array.dtype.itemsize}"))  # so that -0.0 is not 0.0
    return bool(np.array_equal(bits, bits.swapaxes(-1, -2)))


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    form, data = pack(array)
    text = b64encode(data).decode()
    return {"dtype": "<f8", "shape": list(array.shape), "form": form, "data": text}


def _unpacked(value: Mapping[str, Any]) -> NDArray[Any]:
    try:
        data = b64decode(value["data"], validate=True)
        return unpack(value["form"], data, "<f8", [int(size) for size in value["shape"]])
    except (binascii.Error, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"expected a packed matrix: {error!r}") from error


def _to_list(array: NDArray[Any]) -> list[Any]:
    result: list[Any] = array.tolist()
    return result


FULL: Final = "full"
LOWER: Final = "lower"

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

Matrix = Annotated[
    InstanceOf[np.ndarray[Any, Any]],
    BeforeValidator(_matrix),
    PlainSerializer(_packed, when_used="json"),
    WithJsonSchema(
        {
            "type": "object",
            "required": ["dtype", "shape", "form", "data"],
            "properties": {
                "dtype": {"const": "<f8"},
                "shape": {
                    "type": "array",
                    "minItems": 2,
                    "maxItems": 3,
                    "items": {"type": "integer", "minimum": 1},
                },
                "form": {"enum": [FULL, LOWER]},
                "data": {"type": "string", "contentEncoding": "base64"},
            },
        }
    ),
]
"""float64, shape (n, n), or (2, n, n) for two spins; packed in JSON."""

Functions = Annotated[
    InstanceOf[np.ndarray[Any, Any]],
    BeforeValidator(_functions),
    _LIST,
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "type": "array",
                "minItems": 4,
                "maxItems": 4,
                "items": {"type": "integer"},
            },
        }
    ),
]
"""int32, shape (n, 4)."""
