"""Report: a table and a picture of a data set, from its HDF5 file alone.

    python report.py dataset.h5 [dataset.png]

It is also an example of a reader: nothing of qfarm is imported.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import h5py
import matplotlib as mpl
import numpy as np
from ase.formula import Formula
from ase.symbols import Symbols
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

MOST_DRAWN: Final = 60
"""Records in the picture; more could not be told apart."""

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""One a class; palette for colour-blind readers by M. Okabe and K. Ito (2008)."""


@dataclass(frozen=True)
class Entry:
    """What the report shows of one record; units as in the file: eV, A, e, s."""

    name: str
    fragment_class: str
    formula: str
    n_atoms: int
    energy: float
    mbd: float
    forces: NDArray[np.float64]  # norm for each atom
    dipole: float
    ratios: tuple[float, float]  # smallest and largest Hirshfeld ratio
    gap: float
    cpu_time: float


def entries(file: h5py.File) -> Iterator[Entry]:
    """Read the records, class by class, small ones first."""
    for fragment_class, members in file["records"].items():
        of_class = (_entry(fragment_class, group) for group in members.values())
        yield from sorted(of_class, key=lambda entry: (entry.n_atoms, entry.name))


def level_labels(file: h5py.File) -> str:
    """The levels of theory in the file."""
    return "; ".join(level.attrs["label"] for level in file["levels"].values())


def table(found: Sequence[Entry], title: str) -> Table:
    """Make the table, a section for each class."""
    made = Table(
        title=Text(title, style="bold"), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    made.collapse_padding = True
    for number, column in enumerate(_COLUMNS):
        made.add_column(column, justify="right" if number > 1 else "left", no_wrap=True)
    for fragment_class, members in groupby(found, key=lambda entry: entry.fragment_class):
        made.add_row(Text(fragment_class, style="bold"))
        for entry in members:
            made.add_row(*map(Text, _cells(entry)))
        made.add_section()
    return made


def draw(found: Sequence[Entry], title: str, target: Path) -> None:
    """Draw energies, forces and timing, one line a record."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = found[:MOST_DRAWN]
    height = 1.9 + 0.3 * len(shown)
    figure, axes = plt.subplots(1, 4, figsize=(13, height), sharey=True, layout="constrained")
    colours = _colours(shown)
    for axis, panel in zip(axes, (_energies, _dispersion, _forces, _times), strict=True):
        panel(axis, shown, [colours[entry.fragment_class] for entry in shown])
        axis.grid(axis="x", color="0.9")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(shown)), [entry.name for entry in shown])
    axes[0].set_ylim(len(shown) - 0.4, -0.6)
    cut = "" if len(shown) == len(found) else f" (the first {len(shown)} of {len(found)})"
    figure.suptitle(title + cut, x=0.01, ha="left", fontsize=11)
    handles = [mpl.patches.Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(target, dpi=150)
    plt.close(figure)


def main() -> None:
    """Read, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="HDF5 file of `qfarm export`")
    parser.add_argument("picture", type=Path, nargs="?", help="PNG file to write")
    arguments = parser.parse_args()
    with h5py.File(arguments.dataset) as file:
        found = list(entries(file))
        title = f"{len(found)} records, {level_labels(file)}"
        missing = int(file.attrs["n_missing"])
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=120)
    console.print(table(found, title))
    console.print(
        "Energies in eV, forces in eV/A, dipoles in e*A; Hirshfeld: smallest and largest ratio of "
        f"volumes. {missing} missing."
    )
    if arguments.picture:
        draw(found, title, arguments.picture)
        console.print(f"Picture: {arguments.picture}")


def _entry(fragment_class: str, group: h5py.Group) -> Entry:
    numbers = group["atomic_numbers"][()]
    ratios = group["hirshfeld_ratios"][()] if "hirshfeld_ratios" in group else [np.nan]
    formula = _formula(numbers, int(group["charge"][0]))
    tags = list(group.attrs["tags"])
    return Entry(
        name=str(tags[0]).replace("_", " ") if tags else formula,
        fragment_class=fragment_class,
        formula=formula,
        n_atoms=len(numbers),
        energy=_number(group, "energy"),
        mbd=_number(group, "energy_mbd"),
        forces=np.linalg.norm(group["forces"][()], axis=1),
        dipole=float(np.linalg.norm(group["dipole"][()])),
        ratios=(float(np.min(ratios)), float(np.max(ratios))),
        gap=_number(group, "gap"),
        cpu_time=_number(group, "cpu_time"),
    )


def _number(group: h5py.Group, name: str) -> float:
    return float(group[name][0]) if name in group else float("nan")


def _formula(numbers: NDArray[np.int32], charge: int) -> str:
    hill = str(Formula.from_list(list(Symbols(numbers))).format("hill"))
    size = "" if abs(charge) == 1 else str(abs(charge))
    return f"[{hill}]{size}{'+' if charge > 0 else '-'}" if charge else hill


def _cells(entry: Entry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.formula,
        str(entry.n_atoms),
        f"{entry.energy:.4f}",
        f"{entry.mbd:.4f}",
        f"{entry.forces.max():.3f}",
        f"{entry.dipole:.3f}",
        f"{entry.ratios[0]:.2f}-{entry.ratios[1]:.2f}",
        f"{entry.gap:.2f}",
        f"{entry.cpu_time:.1f}",
    )


_COLUMNS: Final = (
    "fragment",
    "formula",
    "atoms",
    "energy",
    "MBD part",
    "max |F|",
    "|dipole|",
    "Hirshfeld",
    "gap",
    "CPU s",
)


def _colours(shown: Sequence[Entry]) -> dict[str, str]:
    classes = dict.fromkeys(entry.fragment_class for entry in shown)
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(classes)}


def _energies(axis: Any, shown: Sequence[Entry], colours: list[str]) -> None:
    bars = axis.barh(range(len(shown)), [entry.energy / 1000 for entry in shown], color=colours)
    axis.invert_xaxis()  # before the labels, which stand at the end of the bars
    axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axis.margins(x=0.2)
    axis.set_xlabel("total energy (keV)")


def _dispersion(axis: Any, shown: Sequence[Entry], colours: list[str]) -> None:
    values = [1000 * entry.mbd / entry.n_atoms for entry in shown]
    bars = axis.barh(range(len(shown)), values, color=colours)
    axis.invert_xaxis()
    axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axis.margins(x=0.2)
    axis.set_xlabel("MBD energy (meV per atom)")


def _forces(axis: Any, shown: Sequence[Entry], colours: list[str]) -> None:
    for row, (entry, colour) in enumerate(zip(shown, colours, strict=True)):
        axis.plot([0, entry.forces.max()], [row, row], color="0.8", linewidth=1, zorder=1)
        axis.scatter(
            entry.forces, np.full(entry.n_atoms, row), s=22, color=colour, alpha=0.6, zorder=2
        )
    axis.set_xlim(left=0)
    axis.set_xlabel("force on each atom (eV/\N{ANGSTROM SIGN})")


def _times(axis: Any, shown: Sequence[Entry], colours: list[str]) -> None:
    bars = axis.barh(range(len(shown)), [entry.cpu_time for entry in shown], color=colours)
    axis.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axis.margins(x=0.2)
    axis.set_xlabel("CPU time of the last stage (s)")


if __name__ == "__main__":
    main()
