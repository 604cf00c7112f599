"""Environment: which variables that begin with ``QFARM_`` there are, and which set what."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel

from qfarm.errors import ConfigError
from qfarm_schemas.config import FarmConfig

PREFIX: Final = "QFARM_"

OTHERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "QFARM_CONFIG": "path of the file that stands for qfarm.toml",
        "QFARM_CI": "1: a test fails where it would be skipped for a missing service",
        "QFARM_JOB_ID": "set by job scripts: the scheduler's id of the batch job",
        "QFARM_JOB_ENDS": "set by job scripts: when its walltime ends, s since 1970",
        "QFARM_LOCAL_JOB": "set by job scripts on this machine: name of the job",
        "QFARM_SHARED": "folder of recorded outputs that tests compare with",
    }
)
"""Variables that are no settings, and what they mean."""


def refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse variables that look like settings and would be ignored; empty ones are as unset."""
    known = tuple(_variables(FarmConfig))
    unknown = [
        name
        for name, value in environment.items()
        if value and name.upper().startswith(PREFIX)
        if name.upper() not in known and name not in OTHERS
    ]
    if not unknown:
        return
    names, settings = ", ".join(unknown), "are no settings" if unknown[1:] else "is no setting"
    near = dict.fromkeys(filter(None, (_nearest(name, known) for name in unknown)))
    settings_are = f"The settings are {', '.join(known)}."
    remedy = f"Did you mean {' and '.join(near)}? Otherwise unset it." if near else settings_are
    raise ConfigError(f"the environment sets {names}, which {settings}", remedy)


def _variables(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[str]:
    """Names of the variables that set the fields of a model, tables before what is in them."""
    for name, field in model.model_fields.items():
        yield prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")


def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    """The setting that a name is a slip of; one underscore for two is the commonest."""
    plain = {_plain(variable): variable for variable in (*known, *OTHERS)}
    near = get_close_matches(_plain(name), plain, n=1, cutoff=0.7)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return name.upper().removeprefix(PREFIX).replace("__", "_")


def with_variable(
    location: tuple[int | str, ...], fault: str, environment: Mapping[str, str]
) -> str:
    """Name the variable behind a fault at a field, when one set the value."""
    words = [str(part).upper() for part in location]
    names = (PREFIX + "__".join(words[:length]) for length in range(len(words), 0, -1))
    upper = {name.upper(): name for name in environment}
    found = next((upper[name] for name in names if name in upper), None)
    return f"{fault} [set by {found} in the environment]" if found else fault
