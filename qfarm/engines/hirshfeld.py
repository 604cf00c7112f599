"""Hirshfeld partition of a density on a PySCF grid: volume ratios and charges.

F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977); volume ratios: A. Tkatchenko, M. Scheffler,
Phys. Rev. Lett. 102, 073005 (2009)::

    w_i(r) = rho_i^free(|r - r_i|) / sum_j rho_j^free(|r - r_j|)
    ratio_i = int |r - r_i|^3 w_i rho / int r^3 rho_i^free,     charge_i = Z_i - int w_i rho

The free atoms are neutral, spin-restricted and spherically averaged, computed with the functional
and the basis of the molecule. A basis that is short of diffuse functions shortens the tails of
atom and molecule alike, and r^3 weighs the tails: only in the same basis does the error cancel.
Against FHI-aims (PBE0, tight, (H2O)9) mean ratios are off by O +0.015, H +0.002 at def2-TZVP and
O +0.046, H -0.009 at def2-SVP; see docs/adr/0004-hirshfeld-free-atoms.md.

Common free atoms come from a packaged table (tools/make_free_atoms.py writes it); others are
computed when first needed. PySCF is imported only then.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import as_file, files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

FloatArray = NDArray[np.float64]

LOG_RADII: Final[FloatArray] = np.linspace(np.log(1e-4), np.log(40.0), 400)
"""Logarithms of the radii (bohr) of tabulated densities, equally spaced."""

TABLE: Final = "data/free_atoms.npz"
"""Packaged table of free atoms, below qfarm.engines: ``xc/basis/symbol`` -> density (400,)."""

_SMALLEST: Final = 1e-300  # keeps logarithms finite where the density underflows
_BLOCK: Final = 20_000  # grid points at a time: bounds the memory to n_atoms * 160 kB
_GRID: Final = (100, 50)  # radial, angular points for a spherical density: exact to l = 5


class FreeAtomError(RuntimeError):
    """The SCF of a free atom did not converge: no ratio can be trusted."""


@dataclass(frozen=True, eq=False)
class FreeAtom:
    """Spherical free atom.

    Attributes
    ----------
    symbol : str
        Element.
    density : (400,) array
        Electron density at ``exp(LOG_RADII)``, e/bohr^3.
    """

    symbol: str
    density: FloatArray

    @property
    def electrons(self) -> float:
        """Number of electrons in the table."""
        return self._moment(0)

    @cached_property
    def volume(self) -> float:
        """Free volume, the integral of r^3 rho, bohr^3."""
        return self._moment(3)

    def at(self, distance: FloatArray) -> FloatArray:
        """Density, e/bohr^3, at `distance` (bohr, any shape) from the nucleus."""
        inside = np.clip(np.log(np.maximum(distance, 1e-10)), LOG_RADII[0], LOG_RADII[-1])
        density: FloatArray = np.exp(self._log_density(inside))
        return density

    @cached_property
    def _log_density(self) -> CubicSpline:
        return CubicSpline(LOG_RADII, np.log(np.maximum(self.density, _SMALLEST)))

    def _moment(self, power: int) -> float:
        """Integrate r^power rho; the trapezoid rule in log r converges exponentially."""
        integrand = np.exp((3 + power) * LOG_RADII) * self.density
        return float(4 * np.pi * np.trapezoid(integrand, LOG_RADII))


@dataclass(frozen=True)
class Hirshfeld:
    """Volume ratios (n,), dimensionless, and charges (n,), e."""

    ratios: FloatArray
    charges: FloatArray


def hirshfeld(mol: Any, grids: Any, density: FloatArray, *, basis: str, xc: str) -> Hirshfeld:
    """Partition the density of a PySCF molecule.

    Parameters
    ----------
    mol : pyscf.gto.Mole
        The molecule, built, without ghost atoms.
    grids : pyscf.dft.Grids
        Its grid, built.
    density : (m,) array
        Electron density at the grid points, e/bohr^3 (``NumInt.get_rho``).
    basis, xc : str
        Basis and functional of the calculation, in PySCF's names; the free atoms use the same.

    Raises
    ------
    FreeAtomError
        If a free atom that is not in the table does not converge.
    """
    atoms = [free_atom(mol.atom_pure_symbol(index), basis, xc) for index in range(mol.natm)]
    return partition(
        atoms, mol.atom_coords(), mol.atom_charges(), grids.coords, grids.weights * density
    )


def partition(
    atoms: Sequence[FreeAtom],
    positions: FloatArray,
    nuclear_charges: FloatArray,
    points: FloatArray,
    electrons: FloatArray,
) -> Hirshfeld:
    """Share `electrons` (m,), density times weight, at `points` (m, 3) between free `atoms`.

    Parameters
    ----------
    atoms : sequence of n FreeAtom
    positions : (n, 3) array
        bohr.
    nuclear_charges : (n,) array
        e.
    points : (m, 3) array
        bohr.
    electrons : (m,) array
        e.
    """
    populations, volumes = np.zeros(len(atoms)), np.zeros(len(atoms))
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = np.array([np.linalg.norm(points[block] - at, axis=1) for at in positions])
        share = _weights(atoms, distances) * electrons[block]
        populations += share.sum(axis=1)
        volumes += np.einsum("ip,ip->i", share, distances**3)
    free_volumes = np.array([atom.volume for atom in atoms])
    return Hirshfeld(volumes / free_volumes, nuclear_charges - populations)


def _weights(atoms: Sequence[FreeAtom], distances: FloatArray) -> FloatArray:
    """Hirshfeld weights (n, m) at `distances` (n, m); they sum to 1 at every point."""
    densities = np.array([atom.at(r) for atom, r in zip(atoms, distances, strict=True)])
    weights: FloatArray = densities / densities.sum(axis=0)
    return weights


def free_atom(symbol: str, basis: str, xc: str) -> FreeAtom:
    """Return the free atom from the table, or compute it; kept for the life of the process.

    Raises
    ------
    FreeAtomError
        If the computation does not converge.
    """
    return _free_atom(symbol, basis.lower(), xc.lower())


@cache
def _free_atom(symbol: str, basis: str, xc: str) -> FreeAtom:
    tabulated = _table().get(table_key(symbol, basis, xc))
    if tabulated is None:
        return compute_free_atom(symbol, basis, xc)
    return FreeAtom(symbol, tabulated)


def table_key(symbol: str, basis: str, xc: str) -> str:
    """Name of a free atom in the table."""
    return f"{xc}/{basis}/{symbol}".lower()


@cache
def _table() -> Mapping[str, FloatArray]:
    with as_file(files("qfarm.engines") / TABLE) as path, np.load(path) as table:
        return dict(table)


def compute_free_atom(symbol: str, basis: str, xc: str) -> FreeAtom:
    """Compute a free atom by PySCF's spherically averaged restricted Kohn-Sham.

    Occupations are those of PySCF's table of ground states with fractionally filled shells.

    Raises
    ------
    FreeAtomError
        If the SCF does not converge.
    """
    atom = _lone_atom(symbol, basis)
    mean_field = _spherical_mean_field(atom)
    mean_field.xc = xc
    mean_field.grids.atom_grid = _GRID
    mean_field.kernel()
    if not mean_field.converged:
        raise FreeAtomError(f"the free {symbol} atom did not converge with {xc}/{basis}")
    return FreeAtom(symbol, _radial_density(atom, mean_field.make_rdm1()))


def _spherical_mean_field(atom: Any) -> Any:
    from qfarm.engines.pyscf.library import atom_ks, elements

    with warnings.catch_warnings():  # PySCF 2.14 calls its own deprecated function here
        warnings.simplefilter("ignore", DeprecationWarning)
        mean_field = atom_ks.AtomSphericAverageRKS(atom)
    mean_field.atomic_configuration = elements.NRSRHFS_CONFIGURATION
    return mean_field


def _lone_atom(symbol: str, basis: str) -> Any:
    """PySCF molecule of one atom, all-electron."""
    from qfarm.engines.pyscf.library import elements, gto

    spin = elements.charge(symbol) % 2
    return gto.M(atom=[(symbol, (0, 0, 0))], basis=basis, spin=spin, verbose=0)


def _radial_density(atom: Any, density_matrix: FloatArray) -> FloatArray:
    radii = np.exp(LOG_RADII)
    orbitals = atom.eval_gto("GTOval_sph", radii[:, None] * [0.0, 0.0, 1.0])
    density: FloatArray = np.einsum("pi,pi->p", orbitals @ density_matrix, orbitals)
    return density
