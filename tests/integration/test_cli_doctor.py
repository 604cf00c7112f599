"""``qfarm doctor`` on a real MongoDB, with the engines that are installed here."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from qfarm.cli.doctor import places
from qfarm.cli.doctor.finding import Verdict
from qfarm.config import load
from support.farm import Desk, Said, desk, qfarm
from support.intake import WATER_ATOMS, frame_text
from support.species import species_text

__all__ = ["desk"]

WATER = frame_text("class=dimer", WATER_ATOMS)
SALT_WATER = frame_text("class=dimer charge=1", (*WATER_ATOMS, "Na 0 0 2.5"))

SLATER_KOSTER = ("H-H.skf", "H-O.skf", "O-H.skf", "O-O.skf")


def verdicts(said: Said) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in json.loads(said.raw)["checks"]}


def check(said: Said, name: str) -> dict[str, Any]:
    found = [check for check in json.loads(said.raw)["checks"] if check["check"] == name]
    assert len(found) == 1, found
    return dict(found[0])


def write(folder: Path, *names: str, text: str = "a table") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def species(folder: Path, *tiers: str) -> None:
    """A made-up tree of species defaults for water."""
    for tier in tiers:
        for symbol, name in (("H", "01_H_default"), ("O", "08_O_default")):
            write(folder, f"{tier}/{name}", text=species_text(symbol, tier))


def set_up(desk: Desk, text: str) -> None:
    (desk.folder / "qfarm.toml").write_text(text)


@pytest.fixture
def nothing_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.mark.usefixtures("nothing_on_path")
def test_a_farm_with_open_engines_has_no_fault(desk: Desk) -> None:
    desk.run("submit", desk.file(WATER), "--protocol", "demo")
    said = desk.run("doctor")
    assert said.code == 0, said.out
    assert "2 stages at 2 levels of theory ok" in said.out
    assert "water at GFN2-xTB in" in said.out
    assert "water at PBE0+MBD/intermediate in" in said.out
    assert "replica set qfarm; written and read back in" in said.out
    assert "not set up: aims: " in said.out
    assert 'parameters = "/path/to/3ob-3-1"' in said.out
    assert said.out.splitlines()[-1] == "No fault, 1 warning."  # no `qfarm up`, no launchpad
    assert list((desk.folder / ".qfarm").rglob("doctor*")) == []


def test_without_mongodb_the_rest_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = qfarm("doctor", "--json")
    assert said.code == 1
    found = verdicts(said)
    assert [name for name, verdict in found.items() if verdict == "fault"] == ["MongoDB"]
    assert found["tblite"] == found["pyscf"] == found["scratch space"] == "ok"
    assert found["queued work"] == "unknown"
    assert "qfarm up" in check(said, "MongoDB")["cure"]
    assert list(tmp_path.iterdir()) == []


def test_queued_work_makes_engines_necessary(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    species(desk.folder / "species", "tight")
    write(desk.folder / "skf", *SLATER_KOSTER)
    tables = '[engines.aims]\nparameters = "species"\n[engines.dftbplus]\nparameters = "skf"'
    set_up(desk, tables)
    assert desk.run("submit", desk.file(WATER), "--protocol", "qcell").code == 0
    (desk.folder / "qfarm.toml").unlink()
    said = desk.run("doctor", "--json")
    assert said.code == 1
    faults = {name for name, verdict in verdicts(said).items() if verdict == "fault"}
    assert faults == {"aims: parameter files", "dftbplus: parameter files"}
    assert "[engines.aims]" in check(said, "aims: parameter files")["cure"]


def test_a_missing_executable(desk: Desk) -> None:
    species(desk.folder / "species", "light")
    set_up(desk, '[engines.aims]\ncommand = "/nowhere/aims.x"\nparameters = "species"')
    said = desk.run("doctor", "--engine", "aims", "--json")
    assert said.code == 1
    found = check(said, "aims")
    assert (found["verdict"], found["found"]) == ("fault", "not found")
    assert "/nowhere/aims.x" in found["what"]
    assert 'command = "/nowhere/aims.x"' in found["cure"]
    assert list(desk.folder.rglob("doctor*")) == []


def test_a_program_that_fails_keeps_what_it_said(desk: Desk) -> None:
    species(desk.folder / "species", "tight")
    script = desk.folder / "broken"
    script.write_text("#!/bin/sh\necho 'no licence today' >&2\nexit 3\n")
    script.chmod(0o755)
    set_up(desk, f'[engines.aims]\ncommand = "{script}"\nparameters = "species"')
    found = check(desk.run("doctor", "--engine", "aims", "--json"), "aims")
    assert found["verdict"] == "fault"
    assert "water at PBE0+MBD/tight failed" in found["what"]
    assert "no licence today" in found["what"]
    kept = Path(found["cure"].splitlines()[-1].removeprefix("Input and output: "))
    assert (kept / "control.in").is_file()


def test_a_file_that_the_queued_fragments_need(desk: Desk) -> None:
    sodium = ("H-Na.skf", "Na-H.skf", "O-Na.skf", "Na-O.skf", "Na-Na.skf")
    write(desk.folder / "skf", *SLATER_KOSTER, *sodium)
    species(desk.folder / "species", "tight")
    write(desk.folder / "species", "tight/11_Na_default", text=species_text("Na"))
    tables = '[engines.aims]\nparameters = "species"\n[engines.dftbplus]\nparameters = "skf"'
    set_up(desk, tables)
    salt = desk.file(SALT_WATER)
    assert desk.run("submit", salt, "--protocol", "qcell").code == 0
    (desk.folder / "skf/O-Na.skf").unlink()
    found = check(desk.run("doctor", "--engine", "dftbplus", "--json"), "dftbplus: parameter files")
    assert found["verdict"] == "fault"
    assert "need O-Na.skf, which the folder" in found["what"]
    found = check(desk.run("doctor", "--engine", "aims", "--json"), "aims: parameter files")
    assert (found["verdict"], found["found"].split(" in ")[0]) == ("ok", "3 files for H O Na")
    said = desk.run("submit", desk.file(SALT_WATER.replace("2.5", "2.6")), "--protocol", "qcell")
    assert said.code == 1
    assert "parameter files are missing (1):" in said.err
    assert "stage 'preopt' (dftbplus): dftbplus needs O-Na.skf" in said.err


def test_water_is_no_fault_where_the_queue_has_other_elements(desk: Desk) -> None:
    write(desk.folder / "skf", "Na-Na.skf", "F-F.skf", "Na-F.skf", "F-Na.skf")
    species(desk.folder / "species", "tight")
    for symbol, name in (("Na", "tight/11_Na_default"), ("F", "tight/09_F_default")):
        write(desk.folder / "species", name, text=species_text(symbol))
    tables = '[engines.aims]\nparameters = "species"\n[engines.dftbplus]\nparameters = "skf"'
    set_up(desk, tables)
    salt = desk.file(frame_text("class=dimer", ("Na 0 0 0", "F 0 0 1.93")))
    assert desk.run("submit", salt, "--protocol", "qcell").code == 0
    said = desk.run("doctor", "--engine", "dftbplus", "--json")
    assert verdicts(said) == {"dftbplus: parameter files": "ok", "dftbplus": "warning"}
    assert "no water molecule was tried" in check(said, "dftbplus")["what"]
    assert said.code == 0


def test_an_engine_of_the_site_that_works(desk: Desk) -> None:
    double = Path(__file__).parents[1] / "doubles" / "aims_double.py"
    species(desk.folder / "species", "tight")
    set_up(desk, f'[engines.aims]\ncommand = "{sys.executable} {double}"\nparameters = "species"')
    assert desk.run("submit", desk.file(WATER), "--protocol", "qcell").code == 1  # no DFTB+
    said = desk.run("doctor", "--engine", "aims", "--json")
    found = check(said, "aims")
    assert found["verdict"] == "ok", found
    assert "water at PBE0+MBD/tight in" in found["found"]
    assert said.code == 0


def test_partitions_with_settings_of_their_own_are_tried_each(desk: Desk) -> None:
    species(desk.folder / "species", "light")
    common = '[engines.aims]\ncommand = "/nowhere/a.x"\nparameters = "species"\n'
    own = '[[partitions]]\nname = "b"\n[partitions.engines.aims]\ncommand = "/nowhere/b.x"\n'
    own += 'parameters = "species"\n'
    set_up(desk, common + '[[partitions]]\nname = "a"\n' + own)
    found = verdicts(desk.run("doctor", "--engine", "aims", "--json"))
    assert found == {"aims (a)": "fault", "aims (b)": "fault"}
    said = desk.run("doctor", "--engine", "aims", "--partition", "b", "--json")
    assert "[partitions.engines.aims]" in check(said, "aims")["cure"]
    assert "/nowhere/b.x" in check(said, "aims")["cure"]


def test_unknown_names(desk: Desk) -> None:
    for arguments in (("--engine", "amis"), ("--partition", "moon")):
        said = desk.run("doctor", *arguments)
        assert said.code == 1
        assert arguments[1] in said.err


def test_a_wrong_launchpad(desk: Desk) -> None:
    desk.run("up")
    farm = load(desk.folder)
    assert places.launchpad(farm).verdict is Verdict.OK
    farm.launchpad.write_text("host: elsewhere\n")
    found = places.launchpad(farm)
    assert found.verdict is Verdict.WARNING
    assert found.cure == "Run `qfarm up`: it writes it anew."
