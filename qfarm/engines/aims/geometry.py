"""geometry.in: the atoms of a fragment, written by pyfhiaims. Pure."""

from pyfhiaims.geometry.atom import FHIAimsAtom

from qfarm_schemas.elements import SYMBOLS
from qfarm_schemas.fragment import Fragment


def geometry_in(fragment: Fragment) -> str:
    """Text of geometry.in: one line ``atom x y z symbol`` each in the fragment's order, A.

    Coordinates have twelve decimals in exponential form. An open shell has a line
    ``initial_moment`` below each atom.
    """
    moments = initial_moments(fragment)
    lines = [
        FHIAimsAtom(
            symbol=SYMBOLS[int(number)],
            position=[float(x) for x in position],
            initial_moment=moment,
        ).to_string()
        for number, position, moment in zip(
            fragment.numbers, fragment.positions, moments, strict=True
        )
    ]
    return "\n".join((*lines, ""))


def initial_moments(fragment: Fragment) -> tuple[float, ...]:
    """Unpaired electrons of each atom in the density that the SCF starts from, (n_atoms,).

    They are shared out by atomic number, so that no neutral atom has more of them than electrons.
    It is a start only: ``fixed_spin_moment`` holds the total. Hund's rules are no choice here:
    FHI-aims refuses ``default_initial_moment hund`` for more than one atom.
    """
    share = (fragment.multiplicity - 1) / int(fragment.numbers.sum())
    return tuple(min(1.0, share) * int(number) for number in fragment.numbers)
