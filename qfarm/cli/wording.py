"""Wording: levels of theory, times, sizes and ids as a chemist reads them. Pure."""

from collections.abc import Iterable
from typing import Final

from qfarm.engines import basis_set, method
from qfarm_schemas.attempt import Environment, Rung
from qfarm_schemas.config import Partition
from qfarm_schemas.level import BasisTier, LevelOfTheory

SHORTEST_ID = 11
"""``f`` and 40 bits: among a million fragments two share it with a chance below one half."""


RUN: Final = "qfarm run"
LAUNCH: Final = "qfarm launch"


def working(partitions: Iterable[Partition]) -> str:
    """Command that computes what waits: where there is a scheduler, it is launched."""
    return LAUNCH if any(one.scheduler != "local" for one in partitions) else RUN


def level_name(level: LevelOfTheory) -> str:
    """Method and tier as the protocol names them: ``PBE0+MBD/tight`` or ``GFN2-xTB``."""
    if level.basis is BasisTier.NONE:
        return method(level)
    return f"{method(level)}/{level.basis.value}"


def level_words(level: LevelOfTheory) -> str:
    """Level of theory in full: dispersion, basis set, engine, options."""
    parts = [method(level)]
    if level.mbd_beta is not None:
        parts.append(f"beta {level.mbd_beta:g}")
    if level.basis is not BasisTier.NONE:
        parts.append(f"basis {basis_words(level)}")
    parts += [f"{name} {value}" for name, value in sorted(level.options.items())]
    return f"{', '.join(parts)}; engine {level.engine}"


def basis_words(level: LevelOfTheory) -> str:
    """Basis tier and what the engine makes of it, for instance ``tight (def2-TZVP)``."""
    mapped = basis_set(level)
    return f"{level.basis.value} ({mapped})" if mapped else level.basis.value


def thresholds_words(level: LevelOfTheory) -> str:
    """The SCF thresholds that are required, and those of the four that the level waives."""
    limits = [(name, getattr(level.thresholds, field), unit) for field, name, unit in _THRESHOLDS]
    named = [f"{name} {limit:g}{unit}" for name, limit, unit in limits if limit is not None]
    without = " and ".join(name for name, limit, _ in limits if limit is None)
    return ", ".join([*named, *([f"none for {without}"] if without else [])])


def rung_words(rung: Rung | None) -> str:
    """Aids and basis fallback of a rung."""
    if rung is None:
        return ""
    basis = f"basis {rung.basis.value}" if rung.basis else ""
    parts = (rung.scf, rung.geometry, rung.overlap, rung.memory, basis)
    return ", ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """Time in two units at most: ``3.2 s``, ``4 min 05 s``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def id_length(ids: Iterable[str]) -> int:
    """Characters that tell these ids apart; never below `SHORTEST_ID`."""
    different = set(ids)
    length = SHORTEST_ID
    while len({name[:length] for name in different}) < len(different):
        length += 1
    return length


def counted(number: int, noun: str) -> str:
    """Return ``1 stage``, ``2 stages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def environment_words(environment: Environment) -> str:
    """Where and with what an attempt ran, in one line; what is not known is left out."""
    said = (
        ("batch job ", environment.scheduler_job),
        ("nodes ", environment.node_list),
        ("", environment.cpu),
        ("", environment.gpu),
        ("modules ", " ".join(environment.modules)),
        ("qfarm ", environment.qfarm),
    )
    return ", ".join(f"{name}{value}" for name, value in said if value)


_THRESHOLDS: Final = (
    ("energy", "energy", " eV"),
    ("eigenvalues", "eigenvalue sum", " eV"),
    ("density", "density", ""),
    ("forces", "forces", " eV/A"),
)
