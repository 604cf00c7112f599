"""Refusals that engines share."""

from qfarm_schemas.electrons import impossible
from qfarm_schemas.fragment import Fragment


def electrons(fragment: Fragment) -> str | None:
    """Why the fragment cannot have its charge and multiplicity; None when it can."""
    found = impossible(fragment.n_electrons, fragment.multiplicity)
    return found and f"charge {fragment.charge:+d}: {found.what}; {found.remedy}"
