"""Sites: what a place gives an engine: its launch line, and the parameter files on its disk.

The settings are the ``[engines.NAME]`` tables of ``qfarm.toml``. What is missing is found here,
before a fragment is accepted and before an attempt starts, and is never replaced by something
else: a neighbouring basis tier or parameter set would give other numbers.
"""

import hashlib
import os
import re
import shlex
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from qfarm.config import FILE, Farm
from qfarm.engines.base import Engine, Parameters, Site
from qfarm.errors import ConfigError
from qfarm_schemas.config import EngineConfig, FarmConfig, Partition
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory

DIGITS: Final = 16
"""Characters of a SHA-256 that a record keeps: 64 bits tell parameter sets apart."""

_FILES: Final = 2048
"""Digests kept; the 3ob set has 225 files."""

_TEXTS: Final = 256
"""Texts kept; species defaults of FHI-aims take some 10 kB each."""


@dataclass(frozen=True)
class Missing:
    """What an engine needs and the site does not give, and what the user can do.

    `files` are those that the folder of parameter files lacks.
    """

    what: str
    remedy: str
    files: tuple[str, ...] = ()


_TIERS: Final = (
    "The basis tier is never changed silently: for another one take a protocol that names it."
)


class _Contents(NamedTuple):
    texts: dict[str, str]
    digest: str


def scratch_of(
    farm: Farm, partition: Partition, environment: Mapping[str, str] | None = None
) -> Path:
    """Folder below which attempts of a partition run, on the node that asks.

    Parameters
    ----------
    farm : Farm
        Its own scratch folder counts where the partition names none.
    partition : Partition
        ``scratch`` may hold environment variables of the node: ``"$TMPDIR/qfarm"``.
    environment : mapping or None
        The variables; None: those of the calling process.

    Raises
    ------
    ConfigError
        One of them is not set there, or empty.
    """
    if not partition.scratch:
        return farm.scratch
    given = os.environ if environment is None else environment
    names = [name or braced for name, braced in _VARIABLE.findall(partition.scratch)]
    unset = [name for name in names if not given.get(name)]
    if unset:
        raise _unset(partition, unset)
    filled = _VARIABLE.sub(lambda found: given[found[1] or found[2]], partition.scratch)
    return farm.root / _at_home(filled)


_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def _unset(partition: Partition, names: list[str]) -> ConfigError:
    return ConfigError(
        f"scratch of partition {partition.name!r} is {partition.scratch!r}, and on "
        f"{socket.gethostname()} there is no environment variable {', '.join(names)}",
        f"Correct scratch of the partition in {FILE} (a batch job there that prints its "
        "environment tells which variables there are), or set the variable by `prologue` of the "
        "partition.",
    )


def settings(
    config: FarmConfig, partition: Partition | None, engine: str, asked: str | None = None
) -> EngineConfig:
    """Settings of an engine: the partition's own table, else the farm's, else the defaults.

    Parameters
    ----------
    config : FarmConfig
        The farm's.
    partition : Partition or None
        Where the engine runs; None: as the farm's own settings say.
    engine : str
        Name of the engine that runs.
    asked : str or None
        Name of the engine that it stands in for, if any: its tables count where there are none
        of `engine`.
    """
    own = partition.engines if partition is not None else {}
    tables = (own.get(name) or config.engines.get(name) for name in (engine, asked) if name)
    return next(filter(None, tables), EngineConfig())


def site(
    farm: Farm,
    engine: Engine,
    fragment: Fragment,
    level: LevelOfTheory,
    partition: Partition | None = None,
) -> Site | Missing:
    """What an attempt needs from the place it runs at.

    Parameters
    ----------
    farm : Farm
        Its ``qfarm.toml`` says how engines are started and where their files lie.
    engine : Engine
        An engine that does not refuse `fragment` at `level`.
    fragment : Fragment
        Its elements decide which files are needed.
    level : LevelOfTheory
        The level to compute.
    partition : Partition or None
        Where it runs; None: as the farm's own settings say.

    Returns
    -------
    Site or Missing
        Missing names every file that lacks.
    """
    chosen = settings(farm.config, partition, engine.name, level.engine)
    needed = engine.parameters(fragment, level)
    found = _found(farm, engine.name, needed, level, partition)
    if isinstance(found, Missing):
        return found
    contents = _contents(found, bool(needed.linked))
    if isinstance(contents, Missing):
        return contents
    wrong = engine.wrong_parameters(fragment, level, contents.texts)
    if wrong is not None:
        return Missing(f"{engine.name}: {wrong}", f"Put the right file there. {_TIERS}")
    return Site(
        command=_launch_line(farm, chosen),
        prologue=chosen.prologue,
        environment=chosen.environment,
        ranks=chosen.ranks,
        gpu=chosen.gpu,
        texts=contents.texts,
        digest=contents.digest,
    )


def missing(
    farm: Farm,
    engine: Engine,
    fragment: Fragment,
    level: LevelOfTheory,
    partition: Partition | None = None,
) -> Missing | None:
    """What `site` would miss; for checks before a run, reads no file."""
    needed = engine.parameters(fragment, level)
    found = _found(farm, engine.name, needed, level, partition)
    return found if isinstance(found, Missing) else None


def link(
    farm: Farm,
    engine: Engine,
    fragment: Fragment,
    level: LevelOfTheory,
    partition: Partition | None = None,
) -> Path | None:
    """Folder that the scratch folder links to as `Parameters.linked`; None where nothing is."""
    if not engine.parameters(fragment, level).linked:
        return None
    return folder(farm, settings(farm.config, partition, engine.name, level.engine))


def folder(farm: Farm, chosen: EngineConfig) -> Path | None:
    """Folder of parameter files, absolute; None when none is configured."""
    if not chosen.parameters:
        return None
    path = Path(chosen.parameters)
    with suppress(RuntimeError):  # ~name of nobody: there is no such folder, which will be said
        path = path.expanduser()
    return (farm.root / path).absolute()


def table(engine: str, partition: Partition | None) -> str:
    """Heading of the table in ``qfarm.toml`` that the settings of an engine come from."""
    if partition is not None and engine in partition.engines:
        return f"[partitions.engines.{engine}] of partition {partition.name!r}"
    return f"[engines.{engine}]"


def _launch_line(farm: Farm, chosen: EngineConfig) -> tuple[str, ...]:
    """Words of the launch line, ``~`` at their beginning filled in as a shell would do it.

    A program named by a relative path lies below the folder of ``qfarm.toml``, as all paths of
    that file; engines run in scratch folders, where it would never be found.
    """
    words = [_at_home(word) for word in shlex.split(chosen.command or "")]
    if words and "/" in words[0]:
        words[0] = str(farm.root / words[0])
    return tuple(words)


def _at_home(word: str) -> str:
    with suppress(RuntimeError):  # ~name of nobody
        return str(Path(word).expanduser()) if word.startswith("~") else word
    return word


def _found(
    farm: Farm, name: str, needed: Parameters, level: LevelOfTheory, partition: Partition | None
) -> dict[str, Path] | Missing:
    """Path of each file needed."""
    if not needed.names:
        return {}
    where = table(name, partition)
    place = folder(farm, settings(farm.config, partition, name, level.engine))
    if place is None:
        return _not_configured(name, needed, where)
    paths = {file: place / file for file in sorted(needed.names)}
    try:
        there = place.is_dir()
        lacking = [file for file, path in paths.items() if not path.is_file()]
    except OSError as error:  # for instance of a group that one is not in
        return _unreadable(place, error)
    if not there:
        return Missing(
            f"the folder of parameter files of {name} does not exist: {place}",
            f"Correct `parameters` of {where} in {FILE}.",
        )
    return _lacking(name, lacking, place, level, where) if lacking else paths


def _unreadable(path: Path, error: OSError) -> Missing:
    return Missing(
        f"{path} cannot be read: {error.strerror}",
        "Make it readable for you, or ask its owner to (`ls -ld` shows owner and group).",
    )


def _not_configured(name: str, needed: Parameters, where: str) -> Missing:
    return Missing(
        f"{name} needs parameter files ({_some(needed.names)}), and {FILE} does not say where "
        "they lie",
        f'Write `parameters = "FOLDER"` into the table {where} of {FILE}.',
    )


def _lacking(
    name: str, lacking: list[str], place: Path, level: LevelOfTheory, where: str
) -> Missing:
    files = "these files" if lacking[1:] else "this file"
    tier = (
        ""
        if level.basis is BasisTier.NONE
        else f" The level's tier is {level.basis.value}. {_TIERS}"
    )
    return Missing(
        f"{name} needs {', '.join(lacking)}, which the folder {place} lacks",
        f"Put {files} there, or correct `parameters` of {where} in {FILE}.{tier}",
        tuple(lacking),
    )


def _some(names: tuple[str, ...]) -> str:
    return f"for instance {min(names)}" if names[1:] else names[0]


@lru_cache(maxsize=_FILES)
def _digest_of(path: Path, changed_ns: int, size: int) -> bytes:
    """Digest of a file's content, as long as its time of change and size stay."""
    return hashlib.sha256(path.read_bytes()).digest()


@lru_cache(maxsize=_TEXTS)
def _text_of(path: Path, changed_ns: int, size: int) -> str:
    return path.read_text(encoding="utf-8")


def _contents(found: dict[str, Path], linked: bool) -> _Contents | Missing:
    texts, whole = {}, hashlib.sha256()
    for name, path in found.items():
        try:
            stamp = _stamp(path)
            whole.update(name.encode() + b"\0" + _digest_of(path, *stamp))
            if not linked:
                texts[name] = _text_of(path, *stamp)
        except UnicodeDecodeError as error:
            what = f"{path} is not text in UTF-8 (byte {error.start})"
            return Missing(what, "Put the file there as its program brings it.")
        except OSError as error:
            return _unreadable(path, error)
    return _Contents(texts, whole.hexdigest()[:DIGITS] if found else "")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
