"""Bench: what attempts need besides their claims, the same for all attempts of a worker."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from qfarm import sites
from qfarm.config import Farm
from qfarm.engines import standins
from qfarm.engines.base import Engine, Site
from qfarm.sites import Missing
from qfarm_schemas.attempt import Environment
from qfarm_schemas.config import Partition
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_workers.lifetime import Lifetime
from qfarm_workers.process import EngineProcess
from qfarm_workers.restart import Restarts
from qfarm_workers.scratch import Scratch

Engines = Callable[[str], Engine]
"""How an engine is looked up by name."""


@dataclass(frozen=True)
class Place:
    """What the place of execution gives an engine for one calculation.

    Attributes
    ----------
    site : Site
        Launch line and parameter files.
    linked : Path or None
        Folder that appears in the scratch folder under the name `Parameters.linked`.
    """

    site: Site = field(default_factory=Site)
    linked: Path | None = None


Places = Callable[[Engine, Fragment, LevelOfTheory], Place | Missing]
"""How the place is asked what it gives an engine for a calculation."""


def bare(engine: Engine, fragment: Fragment, level: LevelOfTheory) -> Place:
    """The place of engines that need nothing."""
    return Place()


def engines_of(farm: Farm, partition: Partition, look_up: Engines) -> Engines:
    """The engine table as a partition sees it: where one stands in for another, it is given."""

    def found(name: str) -> Engine:
        return look_up(standins.stand_in(farm.config, partition, name))

    return found


def places_of(farm: Farm, partition: Partition) -> Places:
    """The place that a farm's settings describe."""

    def place(engine: Engine, fragment: Fragment, level: LevelOfTheory) -> Place | Missing:
        found = sites.site(farm, engine, fragment, level, partition)
        if isinstance(found, Missing):
            return found
        return Place(found, sites.link(farm, engine, fragment, level, partition))

    return place


@dataclass(frozen=True)
class Bench:
    """What an attempt needs besides its claim.

    Attributes
    ----------
    process : EngineProcess
        Runs the engines.
    scratch : Scratch
        Where they run.
    partition : Partition
        Threads and memory.
    engines : callable
        Engine table: name of a level's engine -> who computes it here.
    places : callable
        Launch lines and parameter files.
    restarts : Restarts or None
        Where restart files stay between attempts; None: nowhere.
    lifetime : Lifetime
        Of the worker.
    environment : Environment or None
        Goes into each attempt.
    partitions : tuple of Partition
        All that there are: another may allow what this one does not.
    """

    process: EngineProcess
    scratch: Scratch
    partition: Partition
    engines: Engines
    places: Places = bare
    restarts: Restarts | None = None
    lifetime: Lifetime = field(default_factory=Lifetime)
    environment: Environment | None = None
    partitions: tuple[Partition, ...] = ()
