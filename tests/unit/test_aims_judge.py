"""FHI-aims: when an output becomes a record, and which failure every other one is."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qfarm.engines.aims.parse import parse
from qfarm.engines.base import Exit, Job, Site
from qfarm.verdict import Subject, judge, outcome
from qfarm_schemas.attempt import Failure, Success
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import Dispersion, LevelOfTheory, Thresholds
from qfarm_schemas.result import Result
from qfarm_schemas.units import AIMS_HARTREE
from support import aims_fixtures
from support.aims_fixtures import H4, WATERS, stage
from support.recorded import Recorded

BAD, CRASHED = FailureKind.BAD_OUTPUT, FailureKind.CRASHED
SCF, NO_GAP = FailureKind.SCF_NOT_CONVERGED, FailureKind.NO_GAP


def waters() -> Recorded:
    return aims_fixtures.completed()[0]


def h4() -> Recorded:
    return aims_fixtures.completed()[1]


def parsed(record: Recorded) -> Result | Failure:
    return parse(record.job, record.files, record.ended)


def verdict(record: Recorded) -> Success | Failure:
    found = parsed(record)
    if isinstance(found, Failure):
        return found
    return outcome(judge(Subject(found, record.job.stage, record.job.fragment)))


def missed(record: Recorded) -> str:
    """Name of the first check missed."""
    found = parsed(record)
    return next(check.name for check in found.checks if not check.passed)


def edited(record: Recorded, old: str, new: str, count: int = -1) -> Recorded:
    text = record.files["stdout.txt"]
    assert old in text, old
    return replace(record, files={"stdout.txt": text.replace(old, new, count)})


def at_level(record: Recorded, **fields: object) -> Recorded:
    level = record.job.level.model_copy(update=fields)
    return replace(record, job=record.job.model_copy(update={"stage": stage(level)}))


def accepted(record: Recorded) -> Result:
    assert isinstance(verdict(record), Success), verdict(record)
    found = parsed(record)
    assert isinstance(found, Result)
    return found


@pytest.mark.parametrize("name", list(aims_fixtures.EXPECTED_KIND))
def test_recorded(name: str) -> None:
    record = aims_fixtures.recording(name)
    found = parsed(record)
    assert isinstance(found, Failure)
    assert (found.kind, record.why) == (record.kind, record.why)
    assert found.checks
    assert found.remedy


def test_waters_are_accepted() -> None:
    record = waters()
    found = accepted(record)
    assert found.energy == record.energy
    assert found.energy_parts == {"PBE0": record.energy}
    assert np.array_equal(found.forces, record.forces)
    assert found.dipole == pytest.approx([0.25, -0.5, 0.75])
    values = aims_fixtures.expected()[WATERS]
    assert found.charges["hirshfeld"] == pytest.approx(values["hirsh"]["charge"])
    ratios = np.array(values["hirsh"]["vol"]) / np.array(values["hirsh"]["free"])
    assert found.hirshfeld_ratios == pytest.approx(ratios)
    assert (found.homo, found.lumo) == (values["homo"], values["lumo"])
    assert len(found.scf_trace) == 19
    assert found.engine_version == "FHI-aims 231212.1"
    assert "net force removed: 5.9e-03 eV/A" in found.notes[0]


def test_dispersion_is_split_off_and_checked() -> None:
    found = accepted(h4())
    assert found.energy_parts["MBD"] == pytest.approx(-3.297146266763029e-04 * AIMS_HARTREE)
    assert found.energy_parts["PBE"] == pytest.approx(-63.47505445, abs=1e-8)
    assert "MBD self-check" in [check.name for check in found.checks]


def test_version_names_the_species_files() -> None:
    site = Site(digest="0123456789abcdef")
    record = waters()
    job = record.job.model_copy(update={"site": site})
    assert accepted(replace(record, job=job)).engine_version == (
        "FHI-aims 231212.1 (species 0123456789ab)"
    )


def test_forces_of_the_first_time_miss_a_threshold() -> None:
    limits = Thresholds(forces=1e-4, energy=None, eigenvalues=None, density=None)
    found = verdict(at_level(waters(), thresholds=limits))
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.THRESHOLD_MISSED
    assert "6.67e+00 eV/A" in found.cause


EDITS: list[tuple[str, str, str, FailureKind]] = [
    ("Have a nice day.", "Have a nice", "end of the output", CRASHED),
    ("Have a nice day.", "Have a nice day.\n  Begin again", "end of the output", CRASHED),
    ("  Self-consistency cycle converged.", "", "SCF", SCF),
    ("Invoking FHI-aims", "Invoking FHI", "runs in the output", CRASHED),
    ("FHI-aims version   ", "FHI-aims vers", "version", BAD),
    ("  | Atomic structure:", "  | Atomic struct", "geometry as read", BAD),
    ("    0.14084746 ", "    0.14084946 ", "geometry as read", BAD),
    ("| No unit cell requested.", "| Unit cell:", "geometry as read", BAD),
    ("total of         90.000 elec", "total of         91.000 elec", "electrons", BAD),
    ("input files) :      90.0", "input files) :      89.0", "electrons", BAD),
    ("spin channels           :        1", "spin channels :  2", "unpaired electrons", BAD),
    ("  xc                                 pbe0", "  xc  pbe", "functional", BAD),
    (
        "XC: Using hybrid-PBE0 functionals",
        "XC: Using PBE gradient-corrected functionals",
        "functional",
        BAD,
    ),
    (
        "  compute_forces ",
        "  many_body_dispersion beta=0.85\n  compute_forces ",
        "dispersion asked for",
        BAD,
    ),
    (
        "  compute_forces ",
        "  vdw_correction_hirshfeld\n  compute_forces ",
        "dispersion asked for",
        BAD,
    ),
    (
        "| Total energy uncorrected      :  ",
        "| Total energy uncorrected      : NaN ",
        "total energy",
        BAD,
    ),
    (
        "-0.187315464787206E+05 eV\n  | Total energy c",
        "****** eV\n  | Total energy c",
        "total energy",
        BAD,
    ),
    (aims_fixtures.DIPOLE, "", "dipole moment", BAD),
    ("    0.25E+00   -0.50E+00", "    0.25E+00   NaN", "dipole moment", BAD),
    ("| Atom    27: H", "| Atom    27: O", "Hirshfeld charges", BAD),
    (
        "|   Hirshfeld volume        :      7.31505458",
        "|   Hirshfeld volume : *****",
        "Hirshfeld atoms",
        BAD,
    ),
    (
        "charge        :     -0.27707979",
        "charge        :     -0.37707979",
        "Hirshfeld charges",
        BAD,
    ),
    ("(VBM) at     -8.67977464", "(VBM) at     -0.67977464", "gap of the last iteration", NO_GAP),
    (
        "| Electronic free energy        :         -0.187315464787206E+05",
        "| Electronic free energy        :         -0.187315474787206E+05",
        "occupations",
        NO_GAP,
    ),
    (
        "Energy and forces in a compact",
        "  Libmbd: Evaluated energy: -0.1\n  Energy and",
        "dispersion computed",
        BAD,
    ),
    (" Have a nice", " *** scf_solver: SCF cycle not converged.\n Have a nice", "SCF warning", SCF),
    ("Have a nice day.", "Have a nice day.\n *** f: stopped", "error message", CRASHED),
    ("|   Hirshfeld volume        :      7.31505458", "|   Hirshfeld volume : 0.0",
     "Hirshfeld atoms", BAD),
    (aims_fixtures.DIPOLE, f"{aims_fixtures.DIPOLE}1\n{aims_fixtures.DIPOLE}",
     "dipole moment", BAD),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "name", "kind"), EDITS)
def test_one_thing_wrong(old: str, new: str, name: str, kind: FailureKind) -> None:
    record = edited(waters(), old, new)
    assert missed(record) == name
    found = verdict(record)
    assert isinstance(found, Failure)
    assert found.kind is kind
    assert found.remedy


MBD_EDITS = [
    ("VdW method: mbd-rsscs", "VdW method: mbd-nl", "dispersion computed"),
    ("Libmbd: Evaluated energy: -0.3297", "Libmbd: Evaluated energy: -0.3497",
     "dispersion energy as printed"),
    ("Libmbd: Evaluated energy:", "Libmbd: Evaluating", "dispersion energy as printed"),
    ("  many_body_dispersion", "  many_body_dispersion beta=0.85", "dispersion asked for"),
    ("  many_body_dispersion", "  many_body_dispersion_nl", "dispersion asked for"),
    ("  many_body_dispersion", "  #many_body_dispersion", "dispersion asked for"),
    ("Hirshfeld volume        :      5.58156794", "Hirshfeld volume        :      4.58156794",
     "MBD self-check"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "name"), MBD_EDITS)
def test_another_dispersion_is_refused(old: str, new: str, name: str) -> None:
    record = edited(h4(), old, new)
    assert missed(record) == name
    found = verdict(record)
    assert isinstance(found, Failure)
    assert found.kind is BAD


def test_mbd_nl_has_no_self_check() -> None:
    record = at_level(h4(), dispersion=Dispersion.MBD_NL, mbd_beta=0.81)
    record = edited(record, "VdW method: mbd-rsscs", "VdW method: mbd-nl")
    record = edited(record, "  many_body_dispersion", "  many_body_dispersion_nl beta=0.81")
    names = [check.name for check in accepted(record).checks]
    assert "dispersion computed" in names
    assert "MBD self-check" not in names


def test_another_functional_or_beta_than_the_level_is_refused() -> None:
    assert missed(at_level(waters(), method="PBE")) == "functional"
    assert missed(at_level(h4(), mbd_beta=0.85)) == "dispersion asked for"


def test_another_multiplicity_than_the_fragment_is_refused() -> None:
    record = aims_fixtures.recording("pbe0_o2_triplet_dipole")
    record = edited(record, " This is a stub MPI_ALLREDUCE call.", "Have a nice day.\n-----")
    text, _, _ = record.files["stdout.txt"].partition("-----\n You should")
    record = replace(record, files={"stdout.txt": text})
    assert missed(record) == "forces"  # its spin is right
    fragment = record.job.fragment.model_copy(update={"multiplicity": 5})
    record = replace(record, job=record.job.model_copy(update={"fragment": fragment}))
    assert missed(record) == "unpaired electrons"


@pytest.mark.parametrize("name", ["control.in", "geometry.in"])
def test_input_that_was_not_read_is_refused(name: str) -> None:
    record = waters()
    files = {**record.files, name: record.files[name] + "charge 1\n"}
    assert missed(replace(record, files=files)) == f"{name} as read"


@pytest.mark.parametrize(
    ("ended", "name", "kind"),
    [(Exit(1), "exit code", CRASHED), (Exit(0, ("aims.out",)), "folder", BAD)],
)
def test_exit_and_folder(ended: Exit, name: str, kind: FailureKind) -> None:
    record = replace(waters(), ended=ended)
    found = parsed(record)
    assert isinstance(found, Failure)
    assert (missed(record), found.kind) == (name, kind)


def test_two_runs_in_one_output_are_refused() -> None:
    text = waters().files["stdout.txt"]
    for twice in (text + text, aims_fixtures.text(H4) + text):
        record = replace(waters(), files={"stdout.txt": twice})
        assert missed(record) == "runs in the output"


def test_scf_failure_keeps_its_trace_and_gap() -> None:
    found = parsed(aims_fixtures.recording("derived_scf_not_converged_newfmt_pbe0_w09"))
    assert isinstance(found, Failure)
    trace = found.evidence["scf_trace"]
    assert isinstance(trace, list)
    assert len(trace) == 19
    assert trace[-1]["density_change"] == 1.073e-06
    assert found.evidence["HOMO-LUMO gap, eV"] == pytest.approx(8.00036923)
    assert found.cause == "the SCF was not converged in 19 iterations (HOMO-LUMO gap 8.00 eV)"


ABORTS: Mapping[str, FailureKind] = {
    " *** scf_solver: SCF cycle not converged.": SCF,
    " *** check_for_close_encounters: Atoms too close.": FailureKind.BAD_GEOMETRY,
    " *** aims_allocate: Allocation of wave failed.": FailureKind.OUT_OF_MEMORY,
    " *** read_control: Unknown keyword.": BAD,
    " *** get_neighbor_lists: Too many neighbors": CRASHED,
    " * Attention: Ill-conditioned overlap matrix detected.\n *** f: ": FailureKind.ILL_CONDITIONED,
}


@pytest.mark.parametrize("said", ABORTS)
def test_abort(said: str) -> None:
    head = waters().files["stdout.txt"].partition("Have a nice day.")[0]
    found = parsed(replace(waters(), files={"stdout.txt": head + said}, ended=Exit(1)))
    assert isinstance(found, Failure)
    assert found.kind is ABORTS[said]


def test_what_the_system_says_explains_a_cut_output_but_no_message_of_the_program() -> None:
    said = {"stderr.txt": "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0"}
    cut = aims_fixtures.recording("derived_truncated_midscf_pbe0_w09_0055")
    found = parsed(replace(cut, files={**cut.files, **said}, ended=Exit(-9)))
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.OUT_OF_MEMORY
    assert found.checks
    assert len(found.evidence["scf_trace"]) == 8  # type: ignore[arg-type]
    failed = aims_fixtures.recording("derived_scf_not_converged_newfmt_pbe0_w09")
    found = parsed(replace(failed, files={**failed.files, **said}, ended=Exit(1)))
    assert isinstance(found, Failure)
    assert found.kind is SCF


def test_old_versions_complain_of_the_overlap_to_the_error_output() -> None:
    cut = waters().files["stdout.txt"][:60000]
    said = " * Attention: Ill-conditioned overlap matrix detected in thread number       0!"
    record = replace(waters(), files={"stdout.txt": cut, "stderr.txt": said})
    found = parsed(record)
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.ILL_CONDITIONED
    overridden = record.job.model_copy(update={"overlap": {"override_illconditioning": True}})
    found = parsed(replace(record, job=overridden))
    assert isinstance(found, Failure)
    assert found.kind is CRASHED


def start_up(record: Recorded) -> Recorded:
    job = record.job.model_copy(update={"scf": {"start_up": True}})
    return replace(record, job=job)


def test_start_up_never_gives_a_result() -> None:
    other = at_level(waters(), method="PBE")  # a start-up may take another functional
    found = parsed(start_up(other))
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.START_UP
    assert "ready for the next rung" in found.cause
    failed = aims_fixtures.recording("derived_scf_not_converged_newfmt_pbe0_w09")
    found = parsed(start_up(failed))
    assert isinstance(found, Failure)
    assert found.kind is SCF


@pytest.mark.parametrize("place", [0, 1])
def test_no_cut_output_is_accepted(place: int) -> None:
    whole = aims_fixtures.completed()[place]
    lines = whole.files["stdout.txt"].splitlines()
    cuts = list(aims_fixtures.cut_points(lines, every=len(lines) // 60))
    assert len(cuts) > 60
    for cut in cuts:
        found = parsed(replace(whole, files={**whole.files, "stdout.txt": cut}))
        assert isinstance(found, Failure)
        assert found.kind is CRASHED  # never SCF_NOT_CONVERGED: that would climb the ladder


def job() -> Job:
    level = LevelOfTheory(engine="aims", method="PBE0", basis="tight")
    return Job(fragment=waters().job.fragment, stage=stage(level))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(["stdout.txt", "stderr.txt"]), st.text(), max_size=2))
def test_garbage_is_a_failure(files: dict[str, str]) -> None:
    assert isinstance(parse(job(), files, Exit(0)), Failure)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_spoilt_outputs_never_raise(data: st.DataObject) -> None:
    record = h4()
    lines = record.files["stdout.txt"].splitlines()
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(lines) - 1))
        junk = data.draw(st.sampled_from(["", "NaN", "*****", lines[place][:30], "|", ":", "\x00"]))
        start = data.draw(st.integers(0, len(lines[place])))
        lines[place] = lines[place][:start] + junk
    parse(record.job, {"stdout.txt": "\n".join(lines)}, record.ended)
