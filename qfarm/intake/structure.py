"""Structure: what ASE reads in one frame, before anything is checked.

ASE keeps per-frame keys in ``Atoms.info`` but moves those it knows as results (``energy``,
``dipole``, ``charges``, ``magmom``) into a calculator, reads ``class=F`` as a truth value and
``tags=007`` as a number, and takes a bare word of the comment line for a key that is true.
`qfarm.intake.labels` deals with all of that; here nothing is interpreted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import key_val_str_to_dict, parse_properties, read_xyz
from numpy.typing import NDArray

from qfarm.intake.frames import Frame
from qfarm.intake.plain import COLUMNS, plain
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
    """Read a frame as ASE does.

    Returns
    -------
    Structure or Flaw
        Flaw when ASE cannot; never raises, whatever the text.
    """
    if not frame.atoms:
        return Structure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)), comment=frame.comment)
    read = plain(frame)
    if read is not None:
        return Structure(read.numbers, read.positions, info=read.info, comment=frame.comment)
    return by_ase(frame)


def by_ase(frame: Frame) -> Structure | Flaw:
    """Read a frame that may be anything."""
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
        _bad_row(frame) or f"ASE cannot read it: {said}",
        "Each atom line holds a symbol and three coordinates in A, or what `Properties` in the "
        "comment line announces.",
    )


def _bad_row(frame: Frame) -> str | None:
    """Name the first atom line that is not what the comment line announces."""
    try:
        info = key_val_str_to_dict(frame.comment)  # type: ignore[no-untyped-call]
        announced = str(info.get("Properties", COLUMNS))
        _, _, columns, converters = parse_properties(announced)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001  then the comment line is what is wrong, not a row
        return None
    names = columns.names or ()
    for row, line in enumerate(frame.atoms):
        wrong = _wrong_field(line.split(), names, converters)
        if wrong is not None:
            here = f"line {frame.where.line + 2 + row}: {line.strip()[:60]!r}"
            return f"{here} {wrong} (Properties={announced})"
    return None


def _wrong_field(
    words: Sequence[str], names: Sequence[str], converters: Sequence[Callable[[str], object]]
) -> str | None:
    if len(words) < len(names):
        return f"has {len(words)} fields, but {len(names)} are expected"
    for field_, (word, name, convert) in enumerate(zip(words, names, converters, strict=False), 1):
        try:
            convert(word)
        except ValueError:
            return f"has {word!r} in field {field_}, where {name} is expected"
    return None
