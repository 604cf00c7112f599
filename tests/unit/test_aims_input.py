"""control.in of FHI-aims: every keyword, and what each rung may and may not change."""

from collections.abc import Mapping

import pytest
from ase.data import chemical_symbols
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qfarm.engines.aims.aids import LADDER
from qfarm.engines.aims.control import control_in, keywords
from qfarm.engines.aims.settings import (
    BROADENING,
    MemorySettings,
    OverlapSettings,
    ScfSettings,
    density_files,
    reads_density,
)
from qfarm.engines.base import Job, Site
from qfarm.engines.launch import ranks
from qfarm.ladder import Aid
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory, Thresholds
from support import build
from support.species import species_text, species_texts

DENSITY = {"D_spin_01_kpt_000001.csc": ""}
RADICAL = Fragment(numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], multiplicity=2)
FINAL = [aid for aid in LADDER.scf if not aid.settings.get("start_up")]
STARTS = [aid for aid in LADDER.scf if aid.settings.get("start_up")]


def level(**fields: object) -> LevelOfTheory:
    return LevelOfTheory(**(build.PBE0.model_dump() | {"engine": "aims"} | fields))


def job(asked: LevelOfTheory | None = None, **fields: object) -> Job:
    at = asked or level()
    fragment = fields.get("fragment", build.WATER)
    assert isinstance(fragment, Fragment)
    symbols = {chemical_symbols[number] for number in fragment.numbers}
    site = Site(texts=species_texts(symbols, at.basis.value))
    base: dict[str, object] = {"fragment": fragment, "stage": build.stage(level=at), "site": site}
    return Job(**(base | fields))


def written(asked: Job) -> dict[str, str | list[str]]:
    """Keywords as control.in has them; those of ``output`` in a list."""
    found: dict[str, str | list[str]] = {"output": []}
    for line in control_in(asked).split("####")[0].splitlines():
        keyword, value = line.split(maxsplit=1)
        outputs = found["output"]
        if keyword == "output":
            assert isinstance(outputs, list)
            outputs.append(value)
        else:
            assert keyword not in found, f"{keyword} is written twice"
            found[keyword] = value
    return found


def on(aid: Aid, **fields: object) -> dict[str, str | list[str]]:
    return written(job(scf=dict(aid.settings), **fields))


def named(name: str) -> Aid:
    return next(aid for aid in LADDER.scf if aid.name == name)


def test_the_first_attempt_writes_every_keyword() -> None:
    assert written(job()) == {
        "xc": "pbe0",
        "relativistic": "atomic_zora scalar",
        "charge": "0",
        "spin": "none",
        "many_body_dispersion": "beta=0.85",
        "sc_iter_limit": "100",
        "occupation_type": "gaussian 0.01",
        "mixer": "pulay",
        "sc_accuracy_eev": "0.001",
        "sc_accuracy_etot": "1e-05",
        "sc_accuracy_rho": "1e-05",
        "sc_accuracy_forces": "0.0001",
        "elsi_restart": "write 5",
        "compute_forces": ".true.",
        "output": ["dipole", "hirshfeld"],
    }


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"dispersion": "mbd", "mbd_beta": 0.83}, "many_body_dispersion beta=0.83"),
        ({"dispersion": "mbd-nl", "mbd_beta": 0.83}, "many_body_dispersion_nl beta=0.83"),
        ({"dispersion": "none", "mbd_beta": None}, ""),
    ],
)
def test_dispersion(fields: Mapping[str, object], line: str) -> None:
    found = {key: value for key, value in written(job(level(**fields))).items() if "many" in key}
    assert " ".join(f"{key} {value}" for key, value in found.items()) == line


def test_charge_and_spin() -> None:
    anion = Fragment(numbers=[8, 1], positions=RADICAL.positions, charge=-1)
    closed, opened = written(job(fragment=anion)), written(job(fragment=RADICAL))
    assert (closed["charge"], closed["spin"]) == ("-1", "none")
    assert "fixed_spin_moment" not in closed
    assert (opened["charge"], opened["spin"]) == ("0", "collinear")
    assert opened["fixed_spin_moment"] == "1"
    triplet = Fragment(numbers=[8, 8], positions=[[0, 0, 0], [0, 0, 1.2]], multiplicity=3)
    assert written(job(fragment=triplet))["fixed_spin_moment"] == "2"


def test_a_threshold_that_is_none_is_not_written() -> None:
    asked = level(thresholds={"forces": "none", "density": 2.5e-7})
    found = written(job(asked))
    assert found["sc_accuracy_rho"] == "2.5e-07"
    assert "sc_accuracy_forces" not in found


@given(st.floats(1e-12, 1.0), st.floats(1e-12, 1.0))
def test_thresholds_lose_no_digit(energy: float, density: float) -> None:
    found = written(job(level(thresholds={"energy": energy, "density": density})))
    assert float(str(found["sc_accuracy_etot"])) == energy
    assert float(str(found["sc_accuracy_rho"])) == density


@pytest.mark.parametrize("tier", ["light", "intermediate", "tight"])
def test_species_are_pasted_as_they_are_by_atomic_number(tier: str) -> None:
    text = control_in(job(level(basis=tier)))
    assert text.endswith(species_text("H", tier) + species_text("O", tier))
    assert text.count("  species  ") == 2


def test_tiers_give_other_inputs() -> None:
    assert control_in(job(level(basis="tight"))) != control_in(job(level(basis="intermediate")))


def test_control_is_deterministic_and_names_no_place_and_no_date() -> None:
    asked = job(fragment=RADICAL)
    assert control_in(asked) == control_in(Job.model_validate_json(asked.model_dump_json()))
    own = control_in(asked).split("####")[0]
    assert not set("/:#") & set(own)


# rungs


def test_the_ladder_climbs_as_planned() -> None:
    assert [aid.name for aid in LADDER.scf] == [
        "plain",
        "restart",
        "adjust-start",
        "adjust",
        "smeared-start",
        "smeared",
        "linear-start",
        "linear",
    ]
    assert [aid.name for aid in STARTS] == ["adjust-start", "smeared-start", "linear-start"]
    assert LADDER.geometry == ()


@pytest.mark.parametrize("aid", LADDER.scf, ids=lambda aid: aid.name)
def test_rungs_are_made_of_known_settings(aid: Aid) -> None:
    asked = ScfSettings.model_validate(aid.settings)
    assert asked.start_up == aid.name.endswith("-start")
    assert not aid.deviation


def test_after_every_start_comes_a_rung_that_restarts_from_it() -> None:
    names = [aid.name for aid in LADDER.scf]
    for start in STARTS:
        after = LADDER.scf[names.index(start.name) + 1]
        assert after.settings["restart"] is True
        assert f"{after.name}-start" == start.name


@pytest.mark.parametrize("aid", FINAL, ids=lambda aid: aid.name)
@given(
    limits=st.builds(Thresholds, energy=st.floats(1e-9, 1.0), forces=st.floats(1e-9, 1.0)),
    dispersion=st.sampled_from([("mbd", 0.85), ("mbd-nl", 0.83), ("none", None)]),
    basis=st.sampled_from(["light", "intermediate", "tight"]),
    after=st.sampled_from([None, *FailureKind]),
    overlap=st.sampled_from(LADDER.overlap),
    placed=st.booleans(),
)
def test_whatever_can_be_accepted_is_at_the_level(
    aid: Aid,
    limits: Thresholds,
    dispersion: tuple[str, float | None],
    basis: str,
    after: FailureKind | None,
    overlap: Aid,
    placed: bool,
) -> None:
    """Nothing but the convergence aids may differ from the plain rung's input."""
    kind, beta = dispersion
    asked = level(thresholds=limits, dispersion=kind, mbd_beta=beta, basis=basis)
    side = {"overlap": dict(overlap.settings), "after": after, "restart": DENSITY if placed else {}}
    plain = control_in(job(asked)).splitlines()
    rung = control_in(job(asked, scf=dict(aid.settings), **side)).splitlines()
    aids = {
        "sc_iter_limit",
        "mixer",
        "charge_mix_param",
        "elsi_restart",
        "basis_threshold",
        "override_illconditioning",
    }
    kept = [[row for row in text if row.split()[0] not in aids] for text in (plain, rung)]
    assert kept[0] == kept[1]


def test_restart_rung() -> None:
    found = on(named("restart"), restart=DENSITY)
    assert found["elsi_restart"] == "read_and_write 5"
    assert found["sc_iter_limit"] == "300"
    assert "charge_mix_param" not in found


def test_adjust_start_leaves_everything_to_adjust_scf() -> None:
    found = on(named("adjust-start"))
    assert found["adjust_scf"] == "always 3"
    manual = ("sc_accuracy", "mixer", "charge_mix_param", "occupation_type")
    assert not [keyword for keyword in found if keyword.startswith(manual)]
    assert "adjust_scf" not in on(named("adjust"))


def test_smeared_rungs() -> None:
    start, final = on(named("smeared-start")), on(named("smeared"), restart=DENSITY)
    assert start["occupation_type"] == "gaussian 0.05"
    assert start["charge_mix_param"] == final["charge_mix_param"] == "0.05"
    assert start["elsi_restart"] == "write 1"
    assert final["occupation_type"] == "gaussian 0.01"


def test_linear_rungs() -> None:
    start, final = on(named("linear-start")), on(named("linear"), restart=DENSITY)
    assert (start["xc"], start["mixer"]) == ("pbe", "pulay")
    assert (final["xc"], final["mixer"]) == ("pbe0", "linear")
    assert final["elsi_restart"] == "read_and_write 5"


@pytest.mark.parametrize("aid", STARTS, ids=lambda aid: aid.name)
def test_a_start_computes_the_density_alone_and_writes_it_each_time(aid: Aid) -> None:
    found = on(aid)
    assert found["compute_forces"] == ".false."
    assert found["output"] == []
    assert "many_body_dispersion" not in found
    assert "sc_accuracy_forces" not in found
    assert str(found["elsi_restart"]).endswith(" 1")


@pytest.mark.parametrize(
    "forbidden",
    [
        {"xc": "pbe"},
        {"automatic": True},
        {"broadening": 0.05},
        {"temperature": 300.0},
        {"mixer": "broyden"},
        {"start_up": True, "xc": "blyp"},
    ],
)
def test_a_rung_cannot_leave_the_level_or_invent_settings(forbidden: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        list(keywords(job(scf=forbidden)))


def test_a_start_up_may_leave_the_level() -> None:
    ScfSettings(start_up=True, xc="pbe", automatic=True, broadening=5 * BROADENING)


def test_overlap_rungs() -> None:
    plain, threshold = LADDER.overlap
    assert (plain.name, dict(plain.settings), plain.deviation) == ("", {}, "")
    assert OverlapSettings.model_validate(threshold.settings)
    assert "basis_threshold" in threshold.deviation
    assert "ill-conditioned" in threshold.deviation
    found = written(job(overlap=dict(threshold.settings)))
    assert found["basis_threshold"] == "1e-05"
    assert found["override_illconditioning"] == ".true."
    assert not {"basis_threshold", "override_illconditioning"} & set(written(job()))


def test_memory_rungs_divide_the_ranks_and_leave_the_input() -> None:
    asked = [job(memory=dict(aid.settings), site=Site(ranks=16)) for aid in LADDER.memory]
    assert [ranks(each) for each in asked] == [16, 8, 4]
    assert len({control_in(each) for each in asked}) == 1
    assert all(MemorySettings.model_validate(aid.settings) for aid in LADDER.memory)
    assert not any(aid.deviation for aid in LADDER.memory)


# restarts


@pytest.mark.parametrize("after", [None, *FailureKind])
def test_a_placed_density_is_read_after_a_stop_but_not_on_a_new_rung(
    after: FailureKind | None,
) -> None:
    resumed = {FailureKind.WALLTIME, FailureKind.TIME_LIMIT, FailureKind.START_UP, None}
    assert reads_density(job(restart=DENSITY, after=after)) == (after in resumed)


@pytest.mark.parametrize("after", [None, *FailureKind])
def test_a_restarting_rung_reads_it_unless_the_file_may_be_damaged(
    after: FailureKind | None,
) -> None:
    asked = job(restart=DENSITY, after=after, scf={"restart": True})
    assert reads_density(asked) == (after not in {FailureKind.CRASHED, FailureKind.BAD_OUTPUT})


def test_no_density_no_reading() -> None:
    assert written(job(scf={"restart": True}))["elsi_restart"] == "write 5"
    assert written(job(after=FailureKind.WALLTIME))["elsi_restart"] == "write 5"


def test_an_open_shell_needs_the_density_of_both_spins() -> None:
    both = DENSITY | {"D_spin_02_kpt_000001.csc": ""}
    wanted = {"fragment": RADICAL, "after": FailureKind.WALLTIME}
    assert density_files(job(fragment=RADICAL)) == set(both)
    assert not reads_density(job(restart=DENSITY, **wanted))
    assert reads_density(job(restart=both, **wanted))


def test_a_gpu_build_is_told_to_use_gpus_and_nothing_else_changes() -> None:
    plain = job()
    gpu = plain.model_copy(update={"site": plain.site.model_copy(update={"gpu": True})})
    lines, more = control_in(plain).splitlines(), control_in(gpu).splitlines()
    assert "use_gpu" not in lines
    assert [line for line in more if line != "use_gpu"] == lines
    assert more.count("use_gpu") == 1
    assert more.index("use_gpu") < next(i for i, line in enumerate(more) if "species" in line)
