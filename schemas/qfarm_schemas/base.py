"""The frozen model that every schema derives from, and canonical hashing."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """An immutable value; unknown fields are refused, so a typing error never passes silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with some fields changed, validated again.

        Pydantic's own neither validates nor forgets cached properties, so a changed copy would
        keep the id of its original.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**fields | dict(update or {}))


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def none_by_name(value: Any) -> Any:
    """None for ``"none"``, which stands for it in TOML; a validator for fields that may be None."""
    return None if value == "none" else value


def canonical_json(value: Any) -> bytes:
    """Serialise plain JSON data so that equal values give equal bytes.

    Keys are sorted, no white space is written, 300.0 is written as 300 and NaN is refused.
    """
    return _CANONICAL.encode(_plain(value)).encode()


def identity(model: BaseModel) -> bytes:
    """Canonical bytes of what a model says beyond its defaults.

    A field that a later version adds, with a default that means what was done before, leaves the
    ids of all older values as they are. The defaults themselves must therefore never change.
    """
    return canonical_json(model.model_dump(mode="json", exclude_defaults=True))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digest(prefix: str, data: bytes) -> str:
    """Return `prefix` followed by the SHA-256 of `data` in hexadecimal.

    The prefix is a letter, because readers of extended xyz turn an identifier such as
    ``007`` or ``1e5`` into a number.
    """
    return prefix + hashlib.sha256(data).hexdigest()
