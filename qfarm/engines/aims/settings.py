"""Settings of FHI-aims: what a rung of its ladder may set, and what it may never touch. Pure."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from qfarm.engines.base import Job
from qfarm_schemas.base import Model
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import Thresholds

BROADENING: Final = 0.01
"""eV: Gaussian broadening of every accepted result. It is the default of FHI-aims ("No occupation
type given. Defaulting to Gaussian broadening, width = 0.1000E-01 eV" in its output), but must be
written: left to itself, ``adjust_scf`` raises it to 0.05 eV where it expects a small gap."""

START_UP: Final = Thresholds(energy=1e-3, eigenvalues=1e-2, density=1e-3, forces=None)
"""Where a rung that only prepares a density may stop."""

_RESUMED: Final = frozenset(
    {FailureKind.WALLTIME, FailureKind.TIME_LIMIT, FailureKind.START_UP, None},
)
"""None: after ``qfarm retry`` there is a density only where the time was too short."""

_DISTRUSTED: Final = frozenset({FailureKind.CRASHED, FailureKind.BAD_OUTPUT})


class ScfSettings(Model):
    """How the SCF is made to converge.

    Attributes
    ----------
    start_up : bool
        The rung only prepares a density for the next: its result is never accepted, so it alone
        may take another functional, more broadening and looser thresholds.
    restart : bool
        Start from the density of the attempt before, when there is one.
    sc_iter_limit : int
        SCF iterations.
    automatic : bool
        Leave mixing, broadening and thresholds to FHI-aims (``adjust_scf always 3``).
    xc : str or None
        Functional of a start-up in place of the level's.
    mixer : str
        ``pulay`` or ``linear``.
    charge_mix_param : float or None
        Share of the new density mixed in; None: as ``adjust_scf`` chooses by the gap.
    broadening : float
        Width of the Gaussian occupation, eV.
    write_every : int
        SCF iterations from one density file to the next.
    """

    start_up: bool = False
    restart: bool = False
    sc_iter_limit: int = Field(default=100, ge=1)
    automatic: bool = False
    xc: Literal["pbe"] | None = None
    mixer: Literal["pulay", "linear"] = "pulay"
    charge_mix_param: float | None = Field(default=None, gt=0, le=1)
    broadening: float = Field(default=BROADENING, gt=0)
    write_every: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _final_rungs_keep_the_level(self) -> Self:
        departs = self.automatic or self.xc is not None or self.broadening > BROADENING
        if departs and not self.start_up:
            raise ValueError(
                f"only a start-up may set automatic, xc or a broadening above {BROADENING} eV"
            )
        return self


class OverlapSettings(Model):
    """What is done about an ill-conditioned overlap matrix.

    Attributes
    ----------
    basis_threshold : float or None
        Eigenvalue of the overlap matrix below which a combination of basis functions is left
        out; None: as FHI-aims does.
    override_illconditioning : bool
        Go on where FHI-aims would stop.
    """

    basis_threshold: float | None = Field(default=None, gt=0)
    override_illconditioning: bool = False


class MemorySettings(Model):
    """What is done about a lack of memory; `qfarm.engines.launch.ranks` reads it.

    Attributes
    ----------
    ranks_divisor : int
        The site's MPI ranks are divided by it: fewer ranks have more memory each.
    """

    ranks_divisor: int = Field(default=1, ge=1)


def scf(job: Job) -> ScfSettings:
    """SCF settings of the rung.

    Raises
    ------
    pydantic.ValidationError
        If the rung sets something unknown, or something that only a start-up may.
    """
    return ScfSettings.model_validate(job.scf)


def overlap(job: Job) -> OverlapSettings:
    """Overlap settings of the rung; raises as `scf` does."""
    return OverlapSettings.model_validate(job.overlap)


def reads_density(job: Job) -> bool:
    """Whether the SCF starts from the density files of the attempt before.

    Not after a crash or an unreadable output: a damaged file may be what caused it.
    """
    wanted = scf(job).restart or job.after in _RESUMED
    return wanted and job.after not in _DISTRUSTED and density_files(job) <= set(job.restart)


def density_files(job: Job) -> set[str]:
    """Names of the files that ``elsi_restart`` writes and reads: one for each spin channel.

    A calculation without periodicity has one k-point. (FHI-aims manual, section 4.7.1.)
    """
    channels = 1 if job.fragment.multiplicity == 1 else 2
    return {f"D_spin_{channel + 1:02d}_kpt_000001.csc" for channel in range(channels)}
