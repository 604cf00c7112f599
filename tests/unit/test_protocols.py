from importlib.resources import files
from pathlib import Path

import pytest

from qfarm import config
from qfarm.engines import TABLE
from qfarm.errors import ConfigError, NotFoundError
from qfarm.plan import Plan, plan
from qfarm_schemas.config import Protocol, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier

GOOD = """
name = "mine"
[[stages]]
name = "preopt"
task = "optimisation"
[[stages.levels]]
[stages.levels.level]
engine = "tblite"
method = "GFN2-xTB"
"""


def chain(n_atoms: int) -> Fragment:
    """Hydrogen atoms on a line, 1 A apart."""
    return Fragment(
        numbers=[1] * n_atoms,
        positions=[[float(i), 0.0, 0.0] for i in range(n_atoms)],
        multiplicity=1 + n_atoms % 2,
        fragment_class="chain",
        source="chain",
    )


def load_text(folder: Path, text: str) -> Protocol:
    path = folder / "mine.toml"
    path.write_text(text)
    return config.load_protocol(str(path))


def what_is_wrong(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text)
    assert str(folder / "mine.toml") in caught.value.what
    return caught.value.what


OPEN = ("demo", "open", "open-single-point")


def test_four_protocols_come_with_qfarm() -> None:
    assert config.protocols() == (*OPEN, "qcell")


@pytest.mark.parametrize("name", OPEN)
def test_shipped_protocols_cover_every_size(name: str) -> None:
    protocol = config.load_protocol(name)
    assert protocol.name == name
    assert protocol.description
    for n_atoms in (1, 2, 350, 351, 1000):
        planned = plan(chain(n_atoms), protocol)
        assert isinstance(planned, Plan)
        assert {stage.level.engine for stage in planned.stages} <= set(TABLE)


@pytest.mark.parametrize("name", OPEN)
def test_shipped_protocols_end_in_pbe0_mbd_at_the_thresholds_of_qcell(name: str) -> None:
    last = config.load_protocol(name).stages[-1]
    assert last.task is TaskKind.SINGLE_POINT
    for rule in last.levels:
        level = rule.level
        limits = level.thresholds
        assert (level.method, level.dispersion, level.mbd_beta) == ("PBE0", "mbd", 0.85)
        assert (limits.energy, limits.eigenvalues) == (1e-5, 1e-3)
        assert (limits.density, limits.forces) == (1e-5, 1e-4)


@pytest.mark.parametrize(
    ("name", "n_atoms", "basis"),
    [
        ("open", 350, BasisTier.TIGHT),
        ("open", 351, BasisTier.INTERMEDIATE),
        ("demo", 14, BasisTier.INTERMEDIATE),
        ("open-single-point", 14, BasisTier.TIGHT),
    ],
)
def test_basis_of_the_single_point(name: str, n_atoms: int, basis: BasisTier) -> None:
    planned = plan(chain(n_atoms), config.load_protocol(name))
    assert isinstance(planned, Plan)
    assert planned.stages[-1].level.basis is basis


def test_preoptimisation_of_open() -> None:
    preopt = config.load_protocol("open").stages[0]
    assert (preopt.name, preopt.task, preopt.max_force) == ("preopt", TaskKind.OPTIMISATION, 0.01)


def test_user_file(tmp_path: Path) -> None:
    assert load_text(tmp_path, GOOD).name == "mine"


SHIPPED = files("qfarm") / "protocols" / "open.toml"


def test_a_copy_of_a_shipped_protocol_may_keep_its_name(tmp_path: Path) -> None:
    same = SHIPPED.read_text().replace("description = ", "description = '' # ")
    assert load_text(tmp_path, same).name == "open"


def test_a_changed_copy_needs_a_name_of_its_own(tmp_path: Path) -> None:
    changed = SHIPPED.read_text().replace("max_steps = 500", "max_steps = 501")
    assert "name: 'open' is the name of a protocol that comes" in what_is_wrong(tmp_path, changed)
    with pytest.raises(ConfigError, match="Give it a name of its own"):
        load_text(tmp_path, changed)
    renamed = changed.replace('name = "open"', 'name = "longer"')
    assert load_text(tmp_path, renamed).stages[0].max_steps == 501


def test_a_fault_has_no_consequences(tmp_path: Path) -> None:
    what = what_is_wrong(tmp_path, GOOD + 'basis = "tigth"\n')
    assert len(what.splitlines()) == 2
    assert "at least" not in what


def test_two_faults_in_one_stage_are_both_told(tmp_path: Path) -> None:
    text = GOOD.replace("[[stages.levels]]", "max_froce = 1.0\n[[stages.levels]]")
    what = what_is_wrong(tmp_path, text + 'basis = "tigth"\n')
    assert len(what.splitlines()) == 3


@pytest.mark.parametrize("field", ["stages", "stages[0].levels"])
def test_an_empty_list_is_told(tmp_path: Path, field: str) -> None:
    text = 'name = "mine"\nstages = []'
    if field != "stages":
        text = GOOD.partition("[[stages.levels]]")[0] + "levels = []"
    assert f"{field}: at least one is needed" in what_is_wrong(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError) as caught:
        config.load_protocol(str(path))
    assert f"{path} is not text in UTF-8 (byte 8)" in caught.value.what


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(NotFoundError) as caught:
        config.load_protocol("opne")
    assert "open-single-point" in caught.value.remedy


def test_broken_toml(tmp_path: Path) -> None:
    assert "line" in what_is_wrong(tmp_path, "name = \n")


def test_fault_names_the_field_as_in_toml(tmp_path: Path) -> None:
    text = GOOD + 'basis = "tigth"\n'
    assert "stages[0].levels[0].level.basis: " in what_is_wrong(tmp_path, text)
    assert "'tigth'" in what_is_wrong(tmp_path, text)


def test_unknown_field(tmp_path: Path) -> None:
    text = GOOD.replace("[[stages.levels]]", "max_froce = 1.0\n[[stages.levels]]")
    assert "stages[0].max_froce: there is no such field" in what_is_wrong(tmp_path, text)


def test_unknown_engine(tmp_path: Path) -> None:
    what = what_is_wrong(tmp_path, GOOD.replace('"tblite"', '"tblight"'))
    assert "stages[0].levels[0].level.engine: no engine 'tblight'" in what
    assert "pyscf, tblite" in what


def test_rule_that_matches_nothing(tmp_path: Path) -> None:
    text = GOOD.replace("[stages.levels.level]", "min_atoms=5\nmax_atoms=4\n[stages.levels.level]")
    assert "stages[0].levels[0].max_atoms" in what_is_wrong(tmp_path, text)


def test_stage_names_must_differ(tmp_path: Path) -> None:
    twice = GOOD + GOOD.partition("\n[[stages]]")[1] + GOOD.partition("[[stages]]")[2]
    assert "stage names are not unique" in what_is_wrong(tmp_path, twice)


def test_partition_must_be_the_farms(tmp_path: Path) -> None:
    text = GOOD.replace("[[stages.levels]]", 'partition = "gpu"\n[[stages.levels]]')
    assert load_text(tmp_path, text).stages[0].partition == "gpu"
    with pytest.raises(ConfigError, match=r"stages\[0\].partition: .*'gpu'"):
        config.load_protocol(str(tmp_path / "mine.toml"), config.load(tmp_path))
