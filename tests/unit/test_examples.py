"""The examples: fragments that a submission accepts, with their provenance, and the two scripts."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.collections import s22
from ase.data import covalent_radii
from ase.io import read

from qfarm import config
from qfarm.export.dataset import Options
from qfarm.export.hdf5 import write
from qfarm.intake.examine import Examiner
from qfarm.intake.frames import Lines, frames
from qfarm.plan import Plan
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.units import KCAL_PER_MOL
from support.records import identity, record, result

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.extxyz"))
CLASSES = {"nucleic-acid", "lipid", "carbohydrate", "ion-water", "dimer"}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def images(path: Path) -> list[Atoms]:
    return list(read(path, ":"))


def plans(path: Path, protocol: str) -> Iterator[Plan]:
    examiner = Examiner(config.load_protocol(protocol))
    with path.open("rb") as handle:
        for frame in frames(Lines(handle), str(path)):
            planned = examiner.examine(frame)
            assert isinstance(planned, Plan), planned
            yield planned


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("protocol", ["demo", "open-single-point"])
def test_every_fragment_is_accepted(path: Path, protocol: str) -> None:
    fragments = [planned.fragment for planned in plans(path, protocol)]
    for fragment, image in zip(fragments, images(path), strict=True):
        assert fragment.tags[0] == image.info["name"]
        assert fragment.charge == image.info["charge"]
        assert fragment.fragment_class == image.info["class"]
    assert len({fragment.id for fragment in fragments}) == len(fragments)


def test_the_demo_covers_the_five_classes_with_small_fragments() -> None:
    fragments: list[Fragment] = [p.fragment for p in plans(EXAMPLES / "fragments.extxyz", "demo")]
    assert len(fragments) >= 10
    assert {fragment.fragment_class for fragment in fragments} == CLASSES
    assert max(fragment.n_atoms for fragment in fragments) <= 14
    larger = [planned.fragment for planned in plans(EXAMPLES / "larger.extxyz", "demo")]
    assert {fragment.fragment_class for fragment in larger} == CLASSES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_fragment_has_its_provenance(path: Path) -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for image in images(path):
        name = image.info["name"].removesuffix("_a").removesuffix("_b")
        assert f"| `{name}` |" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_atoms_are_too_close(path: Path) -> None:
    for image in images(path):
        distances = image.get_all_distances()  # type: ignore[no-untyped-call]
        for i, j in combinations(range(len(image)), 2):
            radii = covalent_radii[image.numbers[[i, j]]].sum()
            assert distances[i, j] > 0.6 * radii, (image.info["name"], i, j)


S22_NAMES = {
    "formamide_dimer": "Formamide_dimer",
    "water_dimer": "Water_dimer",
    "ammonia_dimer": "Ammonia_dimer",
    "methane_dimer": "Methane_dimer",
    "adenine_thymine": "Adenine-thymine_Watson-Crick_complex",
    "benzene_dimer": "Benzene_dimer_parallel_displaced",
}


def test_fragments_of_s22_are_those_of_s22() -> None:
    tagged = [i for path in FILES for i in images(path) if i.info["tags"].endswith(",s22")]
    found = {image.info["name"]: image for image in tagged}
    for name, original in S22_NAMES.items():
        assert np.array_equal(found[name].numbers, s22[original].numbers)
        assert np.abs(found[name].positions - s22[original].positions).max() < 1e-6
    for name in ("water_dimer", "methane_dimer"):
        parts = np.vstack([found[f"{name}_a"].positions, found[f"{name}_b"].positions])
        assert np.array_equal(parts, found[name].positions)


def run(script: str, *words: str | Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, words)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_report_prints_the_numbers_and_draws(tmp_path: Path) -> None:
    records = [
        record(0, tags=("first_one",)),
        record(1, tags=(), fragment_class="lipid", charge=2),
        record(2, result=result(2, charges={}, energy_parts={}, hirshfeld_ratios=None, homo=None)),
    ]
    write(tmp_path / "data.h5", records, [], Options())
    said = run("report.py", "data.h5", "data.png", folder=tmp_path)
    for one in records:
        assert f"{one.result.energy:.4f}" in said
        assert f"{np.linalg.norm(one.result.forces, axis=1).max():.3f}" in said
    assert "first one" in said
    assert "]2+" in said
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")


def test_interaction_subtracts_the_right_monomers(tmp_path: Path) -> None:
    image = s22["Water_dimer"]
    energies = {(0, 6): -1.0, (0, 3): -0.45, (3, 6): -0.35}
    records = [
        record(
            number,
            fragment_id=identity("f", number),
            result=result(
                number,
                end - start,
                numbers=image.numbers[start:end],
                positions=image.positions[start:end],
                energy=energy * KCAL_PER_MOL,
                energy_parts={"PBE0": energy * KCAL_PER_MOL, "MBD": energy / 10 * KCAL_PER_MOL},
            ),
        )
        for number, ((start, end), energy) in enumerate(energies.items())
    ]
    write(tmp_path / "s22.h5", records, [], Options())
    said = run("interaction.py", "s22.h5", folder=tmp_path)
    (row,) = [line.split() for line in said.splitlines() if "Water dimer" in line]
    assert row == ["Water", "dimer", "-0.20", "-0.02", "-5.02"]
    assert "superposition error" in " ".join(said.split())


def test_the_demos_last_words_can_be_typed(tmp_path: Path) -> None:
    programs, folder = tmp_path / "it's a bin", tmp_path / "my $demo's farm"
    programs.mkdir()
    for name in ("qfarm", "python"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (programs / name).chmod(0o755)
    shell = partial(subprocess.run, capture_output=True, text=True, check=True)
    demo = ["sh", str(EXAMPLES / "demo.sh")]
    said = shell(demo, env={**os.environ, "BIN": str(programs), "DEMO": str(folder)}).stdout
    words = [line for line in said.splitlines() if line.startswith(("  cd ", "  PATH="))]
    found = shell(["sh", "-c", "\n".join([*words, "pwd", "command -v qfarm"])]).stdout
    assert found.splitlines() == [str(folder), str(programs / "qfarm")]
