"""Farms whose FHI-aims and DFTB+ are the doubles of ``tests/doubles``, and fragments for them."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from support.species import species_tree

TESTS = Path(__file__).parents[1]
DOUBLES = TESTS / "doubles"
EXAMPLES = TESTS.parent / "examples"

ELEMENTS = ("H", "C", "N", "O", "F", "Na", "Mg", "P", "S", "Cl", "K", "Ca", "Zn", "Br", "I")
"""What 3ob has parameters for."""

LATTICE = 3.6
"""A: distance of water molecules on a lattice; at 3.1 A, the density of water, the doubles' pair
potential takes hundreds of steps."""

Rule = Mapping[str, Any]


def command(name: str, *words: object) -> str:
    """Launch line of a double: ``aims``, ``dftbplus`` or ``replay``."""
    return " ".join([sys.executable, str(DOUBLES / f"{name}_double.py"), *map(str, words)])


@dataclass(frozen=True)
class DoubleFarm:
    """A farm folder with a ``qfarm.toml``.

    Attributes
    ----------
    folder : Path
        Where it lies.
    plan : Path
        JSON file with the rules of `doubles.misbehaviour`.
    """

    folder: Path
    plan: Path

    def misbehave(self, *rules: Rule) -> None:
        """Replace the plan."""
        self.plan.write_text(json.dumps(rules))

    @property
    def scratch(self) -> Path:
        """Where the scratch folders of attempts stay."""
        return self.folder / ".qfarm" / "scratch"

    def kept(self, fragment_id: str, stage: str, name: str) -> list[str]:
        """Texts of the file `name` of each attempt at a stage, in order; empty where it lacks."""
        found = self.scratch.glob(f"{fragment_id[:12]}.{stage}.*")
        folders = sorted(found, key=lambda path: int(path.name.split(".")[2]))
        return [_text(folder / name) for folder in folders]


def double_farm(
    folder: Path,
    rules: Sequence[Rule] = (),
    slots: int = 2,
    ranks: int = 1,
    commands: Mapping[str, str] | None = None,
    walltime: float | None = None,
) -> DoubleFarm:
    """Make a farm in `folder`.

    Parameters
    ----------
    folder : Path
        Gets ``qfarm.toml``, the plan and made-up parameter files.
    rules : sequence of mapping
        The plan.
    slots : int
        Attempts at once.
    ranks : int
        MPI ranks that qfarm believes an attempt has.
    commands : mapping or None
        Launch lines in place of the doubles' by engine, for instance of ``replay``.
    walltime : float or None
        Seconds that a worker lives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    farm = DoubleFarm(folder, folder / "plan.json")
    farm.misbehave(*rules)
    species_tree(folder / "species", ELEMENTS)
    slater_koster(folder / "3ob")
    lines = {"aims": command("aims"), "dftbplus": command("dftbplus")} | dict(commands or {})
    places = {"aims": "species", "dftbplus": "3ob"}
    engines = (_engine(name, line, places[name], ranks, farm.plan) for name, line in lines.items())
    head = _HEAD.format(slots=slots) + (f"walltime = {walltime}\n" if walltime else "")
    (folder / "qfarm.toml").write_text(head + "".join(engines))
    return farm


_HEAD = """\
keep_scratch = "always"
[[partitions]]
name = "local"
slots = {slots}
memory_mb = 4000
"""


def _engine(name: str, line: str, parameters: str, ranks: int, plan: Path) -> str:
    return f"""
[engines.{name}]
command = {json.dumps(line)}
parameters = "{parameters}"
ranks = {ranks}
environment = {{ DOUBLE_PLAN = {json.dumps(str(plan))} }}
"""


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def slater_koster(folder: Path, elements: Iterable[str] = ELEMENTS) -> Path:
    """Make Slater-Koster files that have nothing but their names right."""
    chosen = tuple(elements)
    folder.mkdir(parents=True, exist_ok=True)
    for first in chosen:
        for second in chosen:
            (folder / f"{first}-{second}.skf").write_text("made for the tests of qfarm\n")
    return folder


def example(*names: str) -> list[Atoms]:
    """Fragments of the examples by name, with their labels."""
    files = ("fragments.extxyz", "larger.extxyz")
    frames = [frame for file in files for frame in ase.io.read(EXAMPLES / file, ":")]
    by_name = {frame.info["name"]: frame for frame in frames}
    return [by_name[name] for name in names]


def water_cluster(molecules: int = 120, seed: int = 7) -> Atoms:
    """Water on a cubic lattice, each molecule turned at random; the same for the same seed."""
    side = round(np.ceil(molecules ** (1 / 3)))
    places = np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), axis=-1).reshape(-1, 3)
    one = np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]])
    turns = _rotations(np.random.default_rng(seed), molecules)
    positions = places[:molecules, None] * LATTICE + one @ turns
    cluster = Atoms("OH2" * molecules, positions.reshape(-1, 3).round(6))
    name = f"water_{molecules}"
    cluster.info = {
        "name": name,
        "charge": 0,
        "multiplicity": 1,
        "class": "ion-water",
        "tags": name,
    }
    return cluster


def _rotations(random: np.random.Generator, count: int) -> np.ndarray:
    """Random rotation matrices, (count, 3, 3)."""
    matrices, _ = np.linalg.qr(random.standard_normal((count, 3, 3)))
    turned: np.ndarray = matrices * np.sign(np.linalg.det(matrices))[:, None, None]
    return turned


def batch_file(path: Path, frames: Iterable[Atoms]) -> Path:
    """Write fragments to submit."""
    ase.io.write(path, list(frames), format="extxyz")
    return path


def recorded_frame(path: Path, fragment_class: str = "dimer") -> Atoms:
    """Geometry of a recording as a neutral fragment to submit."""
    (frame,) = ase.io.read(path, ":")
    frame.info = {"charge": 0, "multiplicity": 1, "class": fragment_class, "tags": path.parent.name}
    return frame
