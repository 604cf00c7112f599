"""Structure: what ASE reads in one frame, before anything is checked.

ASE keeps per-frame keys in ``Atoms.info`` but moves those it knows as results (``energy``,
``dipole``, ``charges``, ``magmom``) into a calculator, reads ``class=F`` as a truth value and
``tags=007`` as a number, and takes a bare word of the comment line for a key that is true.
`qfarm.intake.labels` deals with all of that; here nothing is interpreted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import read_xyz
from numpy.typing import NDArray

from qfarm.intake.frames import Frame
from qfarm.intake.problem import Flaw, Kind


@dataclass(frozen=True)
class Structure:
    """One frame as ASE reads it.

    Attributes
    ----------
    numbers : (n_atoms,) int
        Atomic numbers; 0 for ASE's dummy atom ``X``.
    positions : (n_atoms, 3) float
        A.
    periodic : bool
        Whether some direction is periodic.
    info : dict
        Keys of the comment line, values as ASE converts them.
    comment : str
        The comment line itself.
    summed_charge, summed_spin : float
        Sums of atomic charges (e) and magnetic moments (2S), from columns or a total that ASE
        moved into its calculator; 0 where there are none.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    periodic: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""
    summed_charge: float = 0.0
    summed_spin: float = 0.0


def structure(frame: Frame) -> Structure | Flaw:
    """Let ASE read a frame.

    Returns
    -------
    Structure or Flaw
        Flaw when ASE cannot; never raises, whatever the text.
    """
    if not frame.atoms:
        return Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)), comment=frame.comment)
    try:
        atoms = next(read_xyz(StringIO(frame.text), index=0))
        return _from_atoms(atoms, frame.comment)
    except KeyError as error:
        return _unknown_element(error)
    except Exception as error:  # noqa: BLE001  ASE meets malformed text with almost any type
        return _unreadable(error, frame)


def _from_atoms(atoms: Atoms, comment: str) -> Structure:
    return Structure(
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        positions=np.asarray(atoms.positions, dtype=np.float64),
        periodic=bool(np.any(atoms.pbc)),
        info=dict(atoms.info),
        comment=comment,
        summed_charge=_sum(atoms, "initial_charges", "charges"),
        summed_spin=_sum(atoms, "initial_magmoms", "magmoms", "magmom"),
    )


def _sum(atoms: Atoms, *names: str) -> float:
    results = atoms.calc.results if atoms.calc is not None else {}
    found = {**results, **atoms.arrays}
    return next((float(np.sum(found[name])) for name in names if name in found), 0.0)


def _unknown_element(error: KeyError) -> Flaw:
    symbol = str(error.args[0]) if error.args else ""
    return Flaw(
        Kind.ELEMENT,
        f"{symbol!r} is not the symbol of an element",
        "Write the element's symbol in the first column (an isotope as its element).",
    )


def _unreadable(error: Exception, frame: Frame) -> Flaw:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return Flaw(
        Kind.UNREADABLE,
        f"ASE cannot read it: {said}{_hint(frame)}",
        "Each atom line holds a symbol and three coordinates in A, or what `Properties` in the "
        "comment line announces.",
    )


def _hint(frame: Frame) -> str:
    """Name the first atom line that has no three numbers after a symbol, in a plain frame."""
    if "Properties" in frame.comment:
        return ""
    first = frame.where.line + 2
    bad = (
        f"; look at line {first + row}: {line.strip()[:60]!r}"
        for row, line in enumerate(frame.atoms)
        if not _is_plain(line)
    )
    return next(bad, "")


def _is_plain(line: str) -> bool:
    words = line.split()
    if len(words) < 4:
        return False
    try:
        [float(word) for word in words[1:4]]
    except ValueError:
        return False
    return True
