"""What a level of theory may say to the DFTB+ engine, and why the engine refuses the rest."""

from collections.abc import Callable
from typing import Final

from qfarm.engines import refusals
from qfarm.engines.dftbplus.parameters import ELEMENTS, PARAMETER_SET, symbols, valence
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, Dispersion, LevelOfTheory

METHOD: Final = "DFTB3"
"""Third-order DFTB with the full third-order term and damped X-H interaction."""

GRID: Final = 15
"""Frequencies of MBD, as in libMBD's default and qfarm's own MBD."""

_OPTIONS: Final = {"parameters": PARAMETER_SET, "reference_set": "ts", "kgrid": "1 1 1"}
"""Option of the level: its only value here. Each may be left out. libMBD knows other reference
sets, but qfarm could not check their energies; a molecule has one k-point."""


def reference_set(level: LevelOfTheory) -> str:
    """Free-atom reference data of MBD."""
    return str(level.options.get("reference_set", _OPTIONS["reference_set"]))


def kgrid(level: LevelOfTheory) -> list[int]:
    """k-points; MBD in DFTB+ demands them even for a molecule."""
    return [int(n) for n in str(level.options.get("kgrid", _OPTIONS["kgrid"])).split()]


def refuse(fragment: Fragment, level: LevelOfTheory) -> str | None:
    """Why the engine cannot do this, naming the remedy; None when it can."""
    of_level = (check(level) for check in _LEVEL_CHECKS)
    of_fragment = (check(fragment) for check in _FRAGMENT_CHECKS)
    return next((reason for reason in (*of_level, *of_fragment) if reason), None)


def _method(level: LevelOfTheory) -> str | None:
    if level.method == METHOD:
        return None
    return f"DFTB+ computes {METHOD} here, not {level.method!r}: set method = '{METHOD}'"


def _dispersion(level: LevelOfTheory) -> str | None:
    if level.dispersion in (Dispersion.MBD, Dispersion.NONE):
        return None
    return (
        f"{METHOD} goes with dispersion = 'mbd' (and mbd_beta) or 'none' here, "
        f"not {level.dispersion.value!r}"
    )


def _basis(level: LevelOfTheory) -> str | None:
    if level.basis is BasisTier.NONE:
        return None
    return f"{METHOD} brings its own basis, not {level.basis.value!r}: set basis = 'none'"


def _thresholds(level: LevelOfTheory) -> str | None:
    given = level.thresholds
    wanted = {"eigenvalues": given.eigenvalues, "forces": given.forces}
    unmeasured = [name for name, value in wanted.items() if value is not None]
    if not unmeasured:
        return None
    settings = " and ".join(f"thresholds.{name} = 'none'" for name in unmeasured)
    return (
        f"DFTB+ prints no change of the {' and '.join(unmeasured)} over its iterations: set "
        f"{settings} (the charges are converged to 1e-8 e instead)"
    )


def _options(level: LevelOfTheory) -> str | None:
    unknown = sorted(set(level.options) - set(_OPTIONS))
    if unknown:
        return f"unknown option {', '.join(unknown)}: DFTB+ knows {', '.join(_OPTIONS)}"
    wrong = [name for name, value in level.options.items() if value != _OPTIONS[name]]
    if not wrong:
        return None
    listed = ", ".join(f"{name} = '{_OPTIONS[name]}'" for name in wrong)
    return f"DFTB+ runs with {listed} only: set it, or leave it out"


def _elements(fragment: Fragment) -> str | None:
    foreign = [symbol for symbol in symbols(fragment.numbers) if symbol not in ELEMENTS]
    if not foreign:
        return None
    return (
        f"{PARAMETER_SET} has no parameters for {', '.join(foreign)}, only for "
        f"{', '.join(ELEMENTS)}: use another engine for these fragments"
    )


def _open_shell(fragment: Fragment) -> str | None:
    """Spin constants are no part of 3ob-3-1's documented use, and no output is known to test by."""
    if fragment.multiplicity == 1:
        return None
    return (
        f"multiplicity {fragment.multiplicity}: DFTB3 runs closed-shell only here; correct the "
        "multiplicity, or take a protocol whose engines know open shells, for instance `open`"
    )


def _no_electrons(fragment: Fragment) -> str | None:
    electrons = int(valence(fragment.numbers).sum()) - fragment.charge
    if electrons >= 1:
        return None
    return f"charge {fragment.charge:+d} leaves no valence electron: use another engine"


_LEVEL_CHECKS: Final[tuple[Callable[[LevelOfTheory], str | None], ...]] = (
    _method,
    _dispersion,
    _basis,
    _thresholds,
    _options,
)

_FRAGMENT_CHECKS: Final[tuple[Callable[[Fragment], str | None], ...]] = (
    _elements,
    refusals.electrons,
    _open_shell,
    _no_electrons,
)
