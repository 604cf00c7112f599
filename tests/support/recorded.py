"""Recorded outputs of real programs: what was asked, what the program left, what is expected."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qfarm.engines.base import Exit, Job
from qfarm_schemas.failure import FailureKind


@dataclass(frozen=True)
class Recorded:
    """One recording.

    Attributes
    ----------
    name : str
        Folder name.
    job : Job
        What the recorded input asked for, as a job of qfarm.
    files : mapping
        Name -> text, as the worker would hand them to `Engine.parse`.
    ended : Exit
        How the program ended.
    kind : FailureKind or None
        Kind of failure that must come out; None: the record must be accepted.
    why : str
        Reason for the expectation, a few words.
    energy : float or None
        Reference total energy, eV, read by other code than qfarm's.
    forces : (n_atoms, 3) float or None
        Reference forces, eV/A.
    """

    name: str
    job: Job
    files: Mapping[str, str]
    ended: Exit
    kind: FailureKind | None
    why: str
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
