"""The configuration: the only reader of ``qfarm.toml``, the environment and protocol files.

``qfarm.toml`` is read from the current folder, or from where ``QFARM_CONFIG`` points; nothing is
looked for elsewhere. A variable such as ``QFARM_MONGO__PORT`` goes before the file, the file
before the defaults. Any other variable that begins with ``QFARM_`` is refused, save those of
`qfarm.environment.OTHERS`.
"""

import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
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

from qfarm.engines import TABLE, standins
from qfarm.environment import PREFIX, refuse_unknown, with_variable
from qfarm.errors import ConfigError, NotFoundError, StoreError
from qfarm.private import read_private
from qfarm_schemas.config import FarmConfig, Protocol
from qfarm_schemas.elements import NUMBERS

FILE = "qfarm.toml"
LAUNCHPAD = "my_launchpad.yaml"
DEFAULT_FOLDER = FarmConfig().folder


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
        return self.folder / LAUNCHPAD


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
            _without_credentials(f"{PREFIX}CONFIG names {path}, which is no file"),
            f"Correct {PREFIX}CONFIG, or unset it to use {FILE} of the current folder.",
        )
    values = _read_toml(path) if path.is_file() else {}
    refuse_unknown(os.environ)
    farm = Farm(path.parent, _config(values, path))
    if farm.root.is_relative_to(farm.folder.resolve()):
        raise ConfigError(
            f"{path}: folder: {farm.config.folder!r} is the project folder, or one above it",
            f"Name a folder that only the farm uses, for instance .qfarm, in {FILE}"
            f" or {PREFIX}FOLDER.",
        )
    return farm


def given_uri(farm: Farm) -> str | None:
    """Address of a MongoDB of the user's own; None: `qfarm up` keeps a private one.

    Raises
    ------
    ConfigError
        The file of ``mongo.uri_file`` is not there, or others may read it.
    """
    file = farm.config.mongo.uri_file
    if not file:
        return farm.config.mongo.uri or None
    return read_private(farm.root / Path(file).expanduser(), "mongo.uri_file")


def mongo_uri(farm: Farm) -> str:
    """Address of the farm's MongoDB, credentials included.

    Raises
    ------
    ConfigError
        There is no farm in this folder, but one in a folder above; or as for `given_uri`.
    StoreError
        None is configured and `qfarm up` was never run here, or its file is damaged.
    """
    given = given_uri(farm)
    if given:
        return given
    refuse_below_a_farm(farm)
    path = farm.mongo_folder / "connection.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["uri"])
    except FileNotFoundError:
        what = f"the farm {farm.folder} has no MongoDB: there is no file {path}"
        raise StoreError(what, "Run `qfarm up` first, or set mongo.uri.") from None
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise StoreError(what, "Make it readable for you; `qfarm up` checks it.") from None
    except (ValueError, KeyError, TypeError):
        what = f"{path}, which tells the address of MongoDB, is damaged"
        raise StoreError(what, "Run `qfarm up`: it writes the file anew.") from None


def refuse_below_a_farm(farm: Farm) -> None:
    """Raise ConfigError in a subfolder of a farm's folder, where an empty farm would be made.

    A ``qfarm.toml`` or a farm of its own, or QFARM_CONFIG, says that the folder is meant.
    """
    if os.environ.get(f"{PREFIX}CONFIG") or _holds_farm(farm.root, farm.folder):
        return
    above = next((p for p in farm.root.parents if _holds_farm(p, p / DEFAULT_FOLDER)), None)
    if above is not None:
        raise ConfigError(
            f"there is no farm in {farm.root}, but there is one in the folder above, {above}",
            f"Run `cd {shlex.quote(str(above))}` first; `qfarm up --here` would make a second, "
            "empty farm in this folder.",
        )


def _holds_farm(root: Path, folder: Path) -> bool:
    """Whether a folder has a ``qfarm.toml`` or was set up; what may not be read has not."""
    signs = (root / FILE, folder / "mongo" / "connection.json", folder / LAUNCHPAD)
    return any(os.access(sign, os.F_OK) for sign in signs)


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
    protocol = _read_protocol(source)
    faults = list(_protocol_faults(protocol, farm))
    if faults:
        raise _wrong(str(source), faults)
    if source is path:
        _refuse_taken_name(protocol, path)
    return protocol


def _read_protocol(source: Path | Traversable) -> Protocol:
    try:
        return Protocol.model_validate(_read_toml(source))
    except ValidationError as error:
        raise _wrong(str(source), [_fault(detail) for detail in _causes(error)]) from None


def _refuse_taken_name(protocol: Protocol, path: Path) -> None:
    """Refuse a user's protocol that could be taken for one of qfarm's, which it is not."""
    shipped = _shipped().get(protocol.name)
    if shipped is not None and _read_protocol(shipped).stages != protocol.stages:
        raise ConfigError(
            f"{path}: name: {protocol.name!r} is the name of a protocol that comes with qfarm, "
            "and this file has other stages",
            "Give it a name of its own.",
        )


def _config(values: dict[str, Any], path: Path) -> FarmConfig:
    try:
        settings = _Settings(**values)
    except SettingsError as error:
        raise _not_json(str(error)) from None
    except ValidationError as error:
        label = partial(with_variable, environment=os.environ)
        faults = [label(detail["loc"], _fault(detail)) for detail in _causes(error)]
        raise _wrong(str(path), faults) from None
    config = FarmConfig.model_validate(settings.model_dump())
    wrong = [
        with_variable(place, f"{_field(place)}: {fault}", os.environ)
        for place, fault in standins.faults(config)
    ]
    if wrong:
        raise _wrong(str(path), wrong)
    return config


def _not_json(said: str) -> ConfigError:
    """Error for a table or list in the environment that cannot be parsed; shows no value."""
    named = re.search(r'field "(\w+)"', said)
    field = named.group(1) if named else "..."
    return ConfigError(
        f"{field}: the value of {PREFIX}{field.upper()} in the environment is not JSON",
        f"Correct the variable or unset it; tables and lists are given as JSON. {FILE} is easier.",
    )


def _read_toml(path: Path | Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror}"
        raise ConfigError(what, "Make it readable for you.") from None
    except UnicodeDecodeError as error:
        what = f"{path} is not text in UTF-8 (byte {error.start})"
        raise ConfigError(what, "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", "Correct the file.") from None


def _causes(error: ValidationError) -> list[ErrorDetails]:
    """What is wrong, without what follows from it: faults of a field with faults inside it.

    A list of one item that is not valid is reported as too short, too.
    """
    details = error.errors()
    inside = {detail["loc"][:n] for detail in details for n in range(len(detail["loc"]))}
    return [detail for detail in details if detail["loc"] not in inside]


def _fault(detail: ErrorDetails) -> str:
    """One line: the field as one would write it in TOML, and what is wrong."""
    field = _field(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{field}: there is no such field"
    if detail["type"] == "too_short":
        return f"{field}: at least one is needed"
    if detail["type"] == "tuple_type":
        return f"{field}: a list in brackets is needed, for instance [{_listed(detail)}]"
    message = detail["msg"].removeprefix("Value error, ")
    shown = _shown(detail["loc"], detail["input"])
    return f"{field}: {message}, not {shown}" if shown else f"{field}: {message}"


def _listed(detail: ErrorDetails) -> str:
    """The value as it would stand in a list; what may be a secret is not repeated."""
    return json.dumps(detail["input"]) if _shown(detail["loc"], detail["input"]) else "..."


def _shown(location: tuple[int | str, ...], given: object) -> str:
    """The value as given; empty for tables and lists, and where it may hold a password."""
    short = isinstance(given, bool | int | float | str)
    return repr(given) if short and location[:1] != ("mongo",) and "@" not in str(given) else ""


def _field(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "whole file"


def _wrong(source: str, faults: list[str]) -> ConfigError:
    lines = "\n".join(f"  {fault}" for fault in faults)
    what = _without_credentials(f"{source} is not valid:\n{lines}")
    return ConfigError(what, "Correct the fields named above.")


def _without_credentials(text: str) -> str:
    """Hide user and password of every address, also where one stands for a name or a path."""
    return re.sub(r"(:/{1,2})\S+@", r"\1***@", text)


def _protocol_faults(protocol: Protocol, farm: Farm | None) -> list[str]:
    """Find what the schema cannot know: engines, partitions, rules that match nothing."""
    partitions = {partition.name for partition in farm.config.partitions} if farm else None
    faults = []
    for i, stage in enumerate(protocol.stages):
        if partitions is not None and stage.partition not in {None, *partitions}:
            faults.append(_no_partition(f"stages[{i}].partition", stage.partition, partitions))
        for j, rule in enumerate(stage.levels):
            where = f"stages[{i}].levels[{j}]"
            if partitions is not None and rule.partition not in {None, *partitions}:
                faults.append(_no_partition(f"{where}.partition", rule.partition, partitions))
            unknown = sorted(set(rule.elements) - NUMBERS.keys())
            if unknown:
                faults.append(f"{where}.elements: no symbols of elements: {', '.join(unknown)}")
            if rule.level is not None and rule.level.engine not in TABLE:
                known = ", ".join(sorted(TABLE))
                faults.append(
                    f"{where}.level.engine: no engine {rule.level.engine!r} (engines: {known})"
                )
            if rule.max_atoms is not None and rule.max_atoms < rule.min_atoms:
                faults.append(f"{where}.max_atoms: below min_atoms, so nothing matches")
    return faults


def _no_partition(field: str, name: str | None, partitions: Iterable[str]) -> str:
    known = ", ".join(sorted(partitions))
    return f"{field}: the farm has no partition {name!r} (partitions of {FILE}: {known})"


def _shipped() -> dict[str, Traversable]:
    folder = files("qfarm") / "protocols"
    return {
        entry.name.removesuffix(".toml"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
