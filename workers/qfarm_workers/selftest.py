"""Self-test: what works on this node, before a worker may claim.

A node where an engine does not work fails one fragment after the other. What it cannot do for a
water molecule, it is not asked to do for them.
"""

import importlib
import os
import shutil
import socket
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qfarm import sites
from qfarm.config import Farm
from qfarm.errors import NotFoundError
from qfarm.sites import Missing, scratch_of
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import Partition
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers import water
from qfarm_workers.bench import Engines
from qfarm_workers.scratch import SMALLEST_ROOM, Scratch
from qfarm_workers.water import WATER

FOLDER: Final = "selftest"
"""Where tests of workers run, below the scratch folder."""

SELF_TEST: Final = "self-test failed"
"""What the reason begins with, for which a job ended that found its node unfit."""

PACKAGES: Final = ("numpy", "scipy.linalg", "ase")
"""What every attempt needs; a broken environment or a file system that is away shows in them."""


@dataclass(frozen=True)
class Tested:
    """What came of testing an engine.

    Attributes
    ----------
    engine : str
        As levels of theory name it.
    ok : bool
        Whether a worker may claim for it.
    why, remedy : str
        Why not, and what to do; `why` may also say why nothing was tried.
    version : str
        Of the engine; empty where nothing was computed.
    seconds : float
        Wall time of the water molecule, s.
    """

    engine: str
    ok: bool
    why: str = ""
    remedy: str = ""
    version: str = ""
    seconds: float = 0.0

    @property
    def what(self) -> str:
        """Why not, and what to do, in one line."""
        return f"{self.why.rstrip('.')}. {self.remedy}" if self.remedy else self.why


@dataclass(frozen=True)
class Fit:
    """What a worker may do on its node.

    Attributes
    ----------
    good : frozenset of str
        Engines that work.
    bad : tuple of Tested
        Tests of those that do not.
    """

    good: frozenset[str] = frozenset()
    bad: tuple[Tested, ...] = ()

    @property
    def useless(self) -> bool:
        """Whether nothing works that was tried."""
        return bool(self.bad) and not self.good

    @property
    def why(self) -> str:
        """What does not work, in one line; empty when all does."""
        return "; ".join(f"{test.engine} fails with water: {test.what}" for test in self.bad)


@dataclass(frozen=True)
class Hindrance:
    """Why a worker must not begin at all, and what to do."""

    what: str
    remedy: str


def hindrance(scratch: Path) -> Hindrance | None:
    """Look at what costs nothing to look at; None when nothing is in the way.

    Parameters
    ----------
    scratch : Path
        Where attempts will run.
    """
    return _no_room(scratch) or _no_package()


def engines_to_test(
    partition: Partition, queued: Mapping[str, str], known: Collection[str] = ()
) -> tuple[str, ...]:
    """Engines that a worker of a partition must test before it claims for them.

    Parameters
    ----------
    partition : Partition
        It may take some engines only.
    queued : mapping
        Id -> engine of every level of theory in the queue (`Fleet.levels`).
    known : collection of str
        Engines that were tested already.
    """
    wanted = set(queued.values())
    if partition.takes_engines:
        wanted &= set(partition.takes_engines)
    return tuple(sorted(wanted - set(known)))


def verdict(tests: Iterable[Tested], before: Fit | None = None) -> Fit:
    """What a worker may do after tests; a new test of an engine stands in for an older one."""
    latest = {test.engine: test for test in tests}
    kept = before or Fit()
    good = (kept.good - latest.keys()) | {name for name, test in latest.items() if test.ok}
    bad = tuple(test for test in kept.bad if test.engine not in latest)
    return Fit(frozenset(good), bad + tuple(test for test in latest.values() if not test.ok))


def test(
    name: str,
    farm: Farm,
    partition: Partition,
    engines: Engines,
    levels: Sequence[LevelOfTheory] = (),  # noqa: PT028 - no test of pytest
) -> Tested:
    """Compute water as a worker of the partition would.

    Parameters
    ----------
    name : str
        Engine, as levels of theory name it.
    farm, partition : Farm, Partition
        Where.
    engines : callable
        Engine table.
    levels : sequence of LevelOfTheory
        Those in the queue; the cheapest that can be tried is. None of this engine: the usual.
    """
    try:
        engine = engines(name)
    except NotFoundError as error:
        return Tested(name, False, error.what, error.remedy)

    def lacks(fragment: Fragment, level: LevelOfTheory) -> Missing | None:
        return sites.missing(farm, engine, fragment, level, partition)

    level = water.cheapest(engine, levels, lacks)
    if level is None:
        return Tested(name, True, "nothing was tried: no level of theory is known for water")
    lack = lacks(WATER, level)
    if lack is not None:  # a folder without files for H and O may have those that are needed
        return Tested(name, bool(lack.files), lack.what, lack.remedy)
    return _tested(name, farm, partition, engines, level)


def _tested(
    name: str, farm: Farm, partition: Partition, engines: Engines, level: LevelOfTheory
) -> Tested:
    above = (
        scratch_of(farm, partition) / FOLDER / socket.gethostname()
    )  # process ids are the host's
    root = water.root_of(above, level)
    water.sweep(above)
    try:
        tried = water.run(farm, partition, engines, level, Scratch(root, "never"))
    except OSError as error:
        return Tested(name, False, f"no scratch folder could be made ({error})", _OTHER_SCRATCH)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        with suppress(OSError):  # others test, too
            above.rmdir()
            above.parent.rmdir()
    if isinstance(tried.outcome, Failure):
        return Tested(name, False, tried.outcome.cause, tried.outcome.remedy, "", tried.seconds)
    return Tested(name, True, version=tried.version, seconds=tried.seconds)


def _no_room(scratch: Path) -> Hindrance | None:
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())  # a full quota may show no earlier
        free_mb = shutil.disk_usage(scratch).free / 2**20
    except OSError as error:
        what = f"the scratch folder {scratch} cannot be written: {error.strerror}"
        return Hindrance(what, _OTHER_SCRATCH)
    if free_mb < SMALLEST_ROOM:
        return Hindrance(
            f"the scratch folder {scratch} is full ({free_mb:.0f} MB free)", _OTHER_SCRATCH
        )
    return None


def _no_package() -> Hindrance | None:
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a broken installation raises anything
            return Hindrance(
                f"Python's package {name} cannot be imported: {type(error).__name__}: {error}",
                "Check `python` and `prologue` of the partition, and that its file system is "
                "mounted on that node.",
            )
    return None


_OTHER_SCRATCH: Final = (
    "Free space there, or name another folder as `scratch` of the partition in qfarm.toml."
)
