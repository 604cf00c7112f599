"""The whole line as a newcomer walks it: up, submit, run, look, export, down; real physics."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from qfarm_schemas.units import KCAL_PER_MOL

BIN = Path(sys.executable).parent

WATER_DIMER = """6
charge=0 multiplicity=1 class=dimer tags=water_dimer
O -1.551007 -0.114520  0.000000
H -1.934259  0.762503  0.000000
H -0.599677  0.040712  0.000000
O  1.350625  0.111469  0.000000
H  1.680398 -0.373741 -0.758561
H  1.680398 -0.373741  0.758561
"""

FAR_APART = """2
charge=0 multiplicity=1 class=ion-water tags=nacl
Na 0 0 0
Cl 0 0 12
"""

POINTS = """
name = "points"
[[stages]]
name = "single_point"
task = "single-point"
[[stages.levels]]
[stages.levels.level]
engine = "pyscf"
method = "PBE0"
dispersion = "mbd"
mbd_beta = 0.85
basis = "intermediate"
"""


@dataclass
class Newcomer:
    """Somebody at a shell in a farm folder."""

    folder: Path

    def types(self, *words: str, code: int = 0) -> str:
        """Run a command of the environment; what it printed on stdout."""
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "QFARM_" not in name}
        return kept | {"HOME": str(self.folder), "COLUMNS": "200"}

    def reads(self, *words: str) -> list[dict]:
        return [json.loads(line) for line in self.types(*words, "--json").splitlines()]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    person = Newcomer(tmp_path)
    person.types("qfarm", "up")
    yield person
    person.types("qfarm", "down")


def test_from_a_file_to_a_data_set(newcomer: Newcomer) -> None:
    """Two stages of one fragment, and `lpad` that agrees with `qfarm status`."""
    (newcomer.folder / "dimer.extxyz").write_text(WATER_DIMER)
    newcomer.types("qfarm", "submit", "dimer.extxyz", "--protocol", "demo")
    newcomer.types("qfarm", "run")
    newcomer.types("qfarm", "submit", "dimer.extxyz", "--protocol", "demo")
    newcomer.types("qfarm", "run")  # nothing to do, nothing twice
    lpad = ("lpad", "-l", ".qfarm/my_launchpad.yaml")
    assert newcomer.types(*lpad, "get_wflows", "-d", "count").strip() == "1"
    assert newcomer.types(*lpad, "get_fws", "-s", "COMPLETED", "-d", "count").strip() == "2"
    assert "COMPLETED 1" in newcomer.types("qfarm", "status")
    newcomer.types("qfarm", "export", "out.h5")
    with h5py.File(newcomer.folder / "out.h5") as file:
        (record,) = file["records/dimer"].values()
        energy = record["energy"]
        assert energy.attrs["units"] == "eV"
        parts = record["energy_pbe0"][0] + record["energy_mbd"][0]
        assert energy[0] == pytest.approx(parts, abs=1e-8)
        assert energy[0] == pytest.approx(-4151.546, abs=0.01)
        assert record["energy_mbd"][0] / KCAL_PER_MOL == pytest.approx(-0.65, abs=0.1)
        assert np.abs(record["forces"][:].sum(axis=0)).max() < 5e-3  # grid noise
    manifest = json.loads((newcomer.folder / "out.h5.manifest.json").read_text())
    assert manifest["missing"] == []


def test_a_hopeless_fragment_ends_with_a_reason(newcomer: Newcomer) -> None:
    """Every rung, then a cause and a remedy; in the manifest too, and the good one is exported."""
    (newcomer.folder / "points.toml").write_text(POINTS)
    (newcomer.folder / "both.extxyz").write_text(FAR_APART + WATER_DIMER)
    newcomer.types("qfarm", "submit", "both.extxyz", "--protocol", "points.toml")
    newcomer.types("qfarm", "run", code=3)
    (failed,) = newcomer.reads("qfarm", "list", "--state", "failed")
    assert failed["attempts"] == 4
    assert "diis, damped, level-shift, newton" in failed["reason"]
    assert "unstable" in failed["reason"]
    assert "multiplicity" in failed["remedy"]
    shown = newcomer.types("qfarm", "show", failed["fragment_id"][:12])
    assert "What to do" in shown
    assert "SCF energy change" in shown
    newcomer.types("qfarm", "export", "out.h5")
    manifest = json.loads((newcomer.folder / "out.h5.manifest.json").read_text())
    assert [entry["fragment_id"] for entry in manifest["missing"]] == [failed["fragment_id"]]
    assert manifest["missing"][0]["source"] == "both.extxyz#1"
