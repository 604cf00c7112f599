"""The configuration: the only reader of ``qfarm.toml``, the environment and protocol files.

``qfarm.toml`` is read from the current folder, or from where ``QFARM_CONFIG`` points; nothing is
looked for elsewhere. A variable such as ``QFARM_MONGO__PORT`` goes before the file, the file
before the defaults.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from qfarm.engines import TABLE
from qfarm.errors import ConfigError, NotFoundError, StoreError
from qfarm_schemas.config import FarmConfig, Protocol

FILE = "qfarm.toml"
PREFIX = "QFARM_"


class _Settings(BaseSettings, FarmConfig):
    """`FarmConfig` from the environment over the values of the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, extra="forbid"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


@dataclass(frozen=True)
class Farm:
    """A farm: its configuration and where it lies.

    Attributes
    ----------
    root : Path
        Folder of ``qfarm.toml``; relative paths in it start here.
    config : FarmConfig
        What the user set.
    """

    root: Path
    config: FarmConfig

    @property
    def folder(self) -> Path:
        """The farm folder."""
        return self.root / Path(self.config.folder).expanduser()

    @property
    def scratch(self) -> Path:
        """Where attempts get their scratch folders."""
        chosen = self.config.scratch
        return self.root / Path(chosen).expanduser() if chosen else self.folder / "scratch"

    @property
    def mongo_folder(self) -> Path:
        """All files of the private MongoDB."""
        return self.folder / "mongo"

    @property
    def mongod(self) -> str | None:
        """The mongod executable that the user set."""
        chosen = self.config.mongo.mongod
        return str(self.root / Path(chosen).expanduser()) if chosen else None

    @property
    def launchpad(self) -> Path:
        """File for FireWorks' own commands (``lpad -l``)."""
        return self.folder / "my_launchpad.yaml"


def load(start: Path | None = None) -> Farm:
    """Read the configuration.

    Parameters
    ----------
    start : Path or None
        Folder to look in; None: the current one.

    Returns
    -------
    Farm
        With defaults and root `start` when there is no file.

    Raises
    ------
    ConfigError
        The file or the environment is wrong; every fault is named.
    """
    folder = (start or Path.cwd()).resolve()
    named = os.environ.get(f"{PREFIX}CONFIG")
    path = (folder / Path(named).expanduser()).resolve() if named else folder / FILE
    if named and not path.is_file():
        raise ConfigError(
            f"{PREFIX}CONFIG names {path}, which is no file",
            f"Correct {PREFIX}CONFIG, or unset it to use {FILE} of the current folder.",
        )
    values = _read_toml(path) if path.is_file() else {}
    _refuse_misspelt(os.environ)
    return Farm(path.parent, _config(values, path))


def mongo_uri(farm: Farm) -> str:
    """Address of the farm's MongoDB, credentials included.

    Raises
    ------
    StoreError
        None is configured and `qfarm up` was never run here.
    """
    if farm.config.mongo.uri:
        return farm.config.mongo.uri
    path = farm.mongo_folder / "connection.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["uri"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"the farm {farm.folder} has no MongoDB ({type(error).__name__}: {path})",
            "Run `qfarm up` first, or set mongo.uri.",
        ) from None


def protocols() -> tuple[str, ...]:
    """Names of the protocols that come with qfarm."""
    return tuple(sorted(_shipped()))


def load_protocol(name_or_file: str, farm: Farm | None = None) -> Protocol:
    """Read a protocol, by the name of one that comes with qfarm or from the user's TOML file.

    Parameters
    ----------
    name_or_file : str
        A name of `protocols`, or the path of a file.
    farm : Farm or None
        If given, stages may only name its partitions.

    Raises
    ------
    NotFoundError
        Neither such a protocol nor such a file.
    ConfigError
        The file is wrong; file and fields are named.
    """
    shipped = _shipped().get(name_or_file)
    path = Path(name_or_file).expanduser()
    if shipped is None and not path.is_file():
        raise NotFoundError(
            f"there is no protocol and no file {name_or_file!r}",
            f"Protocols: {', '.join(protocols())}; or give the path of a TOML file.",
        )
    source = shipped or path
    try:
        protocol = Protocol.model_validate(_read_toml(source))
    except ValidationError as error:
        raise _wrong(str(source), [_fault(detail) for detail in error.errors()]) from None
    faults = list(_protocol_faults(protocol, farm))
    if faults:
        raise _wrong(str(source), faults)
    return protocol


def _config(values: dict[str, Any], path: Path) -> FarmConfig:
    try:
        settings = _Settings(**values)
    except SettingsError as error:
        raise ConfigError(
            f"{error} ({error.__cause__})", f"Correct the {PREFIX}... variable; lists are JSON."
        ) from None
    except ValidationError as error:
        label = partial(_with_variable, environment=os.environ)
        faults = [label(detail, _fault(detail)) for detail in error.errors()]
        raise _wrong(str(path), faults) from None
    return FarmConfig.model_validate(settings.model_dump())


def _read_toml(path: Path | Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "Correct the file.") from None


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly, but not quite, the name of a setting."""
    known = [f"{PREFIX}{field.upper()}" for field in FarmConfig.model_fields]
    for variable in environment:
        first = variable.upper().partition("__")[0]
        near = get_close_matches(first, known, n=1, cutoff=0.85)
        if first.startswith(PREFIX) and first not in known and near:
            raise ConfigError(
                f"the environment sets {variable}, which is no setting",
                f"Did you mean {near[0]}? Otherwise unset it.",
            )


def _with_variable(detail: ErrorDetails, fault: str, environment: Mapping[str, str]) -> str:
    """Name the variable behind a fault, when one set the value."""
    words = [str(part).upper() for part in detail["loc"]]
    names = (PREFIX + "__".join(words[:length]) for length in range(len(words), 0, -1))
    upper = {name.upper(): name for name in environment}
    found = next((upper[name] for name in names if name in upper), None)
    return f"{fault} [set by {found} in the environment]" if found else fault


def _fault(detail: ErrorDetails) -> str:
    """One line: the field as one would write it in TOML, and what is wrong."""
    field = _field(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{field}: there is no such field"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = isinstance(given, bool | int | float | str) and not field.endswith("uri")
    return f"{field}: {message}, not {given!r}" if shown else f"{field}: {message}"


def _field(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "whole file"


def _wrong(source: str, faults: list[str]) -> ConfigError:
    lines = "\n".join(f"  {fault}" for fault in faults)
    return ConfigError(f"{source} is not valid:\n{lines}", "Correct the fields named above.")


def _protocol_faults(protocol: Protocol, farm: Farm | None) -> list[str]:
    """Find what the schema cannot know: engines, partitions, rules that match nothing."""
    partitions = {partition.name for partition in farm.config.partitions} if farm else None
    faults = []
    for i, stage in enumerate(protocol.stages):
        if partitions is not None and stage.partition not in {None, *partitions}:
            faults.append(f"stages[{i}].partition: the farm has no partition {stage.partition!r}")
        for j, rule in enumerate(stage.levels):
            where = f"stages[{i}].levels[{j}]"
            if rule.level.engine not in TABLE:
                known = ", ".join(sorted(TABLE))
                faults.append(
                    f"{where}.level.engine: no engine {rule.level.engine!r} (engines: {known})"
                )
            if rule.max_atoms is not None and rule.max_atoms < rule.min_atoms:
                faults.append(f"{where}.max_atoms: below min_atoms, so nothing matches")
    return faults


def _shipped() -> dict[str, Traversable]:
    folder = files("qfarm") / "protocols"
    return {
        entry.name.removesuffix(".toml"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
