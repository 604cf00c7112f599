"""control.in: keywords of a job and the species defaults below them. Pure.

The keywords are written here and the species texts pasted as they are, because pyfhiaims puts a
date into the file and writes species anew, without their comments and auxiliary functions.

Everything that decides a number is written even where it is the default of FHI-aims today.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from qfarm.engines.aims import settings, species
from qfarm.engines.aims.functionals import DISPERSION, XC
from qfarm.engines.aims.settings import ScfSettings
from qfarm.engines.base import Job
from qfarm_schemas.level import LevelOfTheory, Thresholds

ACCURACY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "eigenvalues": "sc_accuracy_eev",
        "energy": "sc_accuracy_etot",
        "density": "sc_accuracy_rho",
        "forces": "sc_accuracy_forces",
    }
)
"""Threshold of the level -> keyword; the units are the same: eV, eV, e, eV/A."""

Lines = Iterator[tuple[str, str]]
"""Keywords and their values."""


def control_in(job: Job) -> str:
    """Text of control.in."""
    lines = "".join(f"{keyword:<26}{value}".rstrip() + "\n" for keyword, value in keywords(job))
    return lines + species.pasted(job.fragment, job.level, job.site.texts)


def keywords(job: Job) -> Lines:
    """Every keyword above the species, in the order of control.in.

    Raises
    ------
    pydantic.ValidationError
        If the rung sets something unknown.
    """
    rung = settings.scf(job)
    yield "xc", rung.xc or XC[job.level.method]
    yield "relativistic", "atomic_zora scalar"
    yield from _electrons(job)
    if not rung.start_up:
        yield from _dispersion(job.level)
    yield from _convergence(job.level, rung)
    yield from _overlap(job)
    yield from _restart(job, rung)
    yield from _wanted(rung)
    yield from _gpu(job)


def _electrons(job: Job) -> Lines:
    """Charge and spin; ``fixed_spin_moment`` is the number of unpaired electrons, 2S."""
    unpaired = job.fragment.multiplicity - 1
    yield "charge", str(job.fragment.charge)
    yield "spin", "collinear" if unpaired else "none"
    if unpaired:
        yield "fixed_spin_moment", str(unpaired)


def _dispersion(level: LevelOfTheory) -> Lines:
    if level.dispersion in DISPERSION:
        yield DISPERSION[level.dispersion], f"beta={level.mbd_beta!r}"


def _convergence(level: LevelOfTheory, rung: ScfSettings) -> Lines:
    yield "sc_iter_limit", str(rung.sc_iter_limit)
    if rung.automatic:
        yield "adjust_scf", "always 3"
        return
    yield "occupation_type", f"gaussian {rung.broadening!r}"
    yield "mixer", rung.mixer
    if rung.charge_mix_param is not None:
        yield "charge_mix_param", repr(rung.charge_mix_param)
    yield from _accuracy(settings.START_UP if rung.start_up else level.thresholds)


def _accuracy(thresholds: Thresholds) -> Lines:
    for field, keyword in ACCURACY.items():
        threshold = getattr(thresholds, field)
        if threshold is not None:
            yield keyword, repr(threshold)


def _overlap(job: Job) -> Lines:
    rung = settings.overlap(job)
    if rung.basis_threshold is not None:
        yield "basis_threshold", repr(rung.basis_threshold)
    if rung.override_illconditioning:
        yield "override_illconditioning", ".true."


def _restart(job: Job, rung: ScfSettings) -> Lines:
    task = "read_and_write" if settings.reads_density(job) else "write"
    yield "elsi_restart", f"{task} {rung.write_every}"


def _gpu(job: Job) -> Lines:
    """``use_gpu``, a word without value: all that FHI-aims has on GPUs.

    It changes where integrals, density and forces are summed, and no setting of theirs (FHI-aims
    manual, appendix G). ``elsi_elpa_gpu``, for the eigensolver, gains little with hybrids.
    """
    if job.site.gpu:
        yield "use_gpu", ""


def _wanted(rung: ScfSettings) -> Lines:
    """What is computed from the density; a start-up needs the density alone."""
    yield "compute_forces", ".false." if rung.start_up else ".true."
    if not rung.start_up:
        yield "output", "dipole"
        yield "output", "hirshfeld"
