"""The batch that `qcell` is tried with on doubles: fragments, what goes wrong, what must come."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from doubles import physics
from qfarm.store import open_store
from qfarm.store.protocol import Selection, View
from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.record import Record
from support import doubles
from support.doubles import DoubleFarm

QFARM = Path(sys.executable).with_name("qfarm")

Rule = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A fragment of the batch, what goes wrong with it, and what must come of it.

    Attributes
    ----------
    name : str
        Of an example; ``water_120`` is built.
    goes_wrong : str
        In words; empty when nothing does.
    rules : tuple of mapping
        For the plan, without what matches the fragment.
    preopt, single_point : tuple of str
        How each attempt ended: ``kind@rung``, ``success@rung`` for the accepted one.
    """

    name: str
    goes_wrong: str = ""
    rules: tuple[Rule, ...] = ()
    preopt: tuple[str, ...] = ("success@broyden",)
    single_point: tuple[str, ...] = ("success@plain",)

    @property
    def accepted(self) -> bool:
        """Whether it ends with a record of the last stage."""
        return bool(self.single_point) and self.single_point[-1].startswith("success")


def _wrong(program: str, do: str, first: int | None = None) -> tuple[Rule, ...]:
    match = {"match": {"program": program}, "do": do}
    return (match if first is None else match | {"first": first},)


BATCH = (
    Case("adenine_thymine"),
    Case("methyl_octanoate"),
    Case("magnesium_6_water"),
    Case(
        "dimethyl_phosphate",
        "its SCF converges only after a start-up",
        _wrong("aims", "scf-not-converged", first=2),
        single_point=(
            "scf-not-converged@plain",
            "scf-not-converged@restart",
            "start-up@adjust-start",
            "success@adjust",
        ),
    ),
    Case(
        "beta_d_glucopyranose",
        "FHI-aims crashes once",
        _wrong("aims", "crash-signal 11", first=1),
        single_point=("crashed@plain", "success@plain"),
    ),
    Case(
        "trans_butane",
        "one output's dispersion energy is 1e-5 Ha off",
        _wrong("aims", "mbd-off 1e-5", first=1),
        single_point=("bad-output@plain", "success@plain"),
    ),
    Case(
        "glycolaldehyde",
        "a row of forces lacks every time",
        _wrong("aims", "missing-force-row"),
        single_point=("bad-output@plain",) * 3,
    ),
    Case(
        "sodium_2_water",
        "no gap",
        _wrong("aims", "small-gap"),
        single_point=("no-gap@plain",),
    ),
    Case(
        "benzene_dimer",
        "the overlap matrix is ill-conditioned",
        _wrong("aims", "ill-conditioned"),
        single_point=("ill-conditioned@plain", "success@plain+basis-threshold"),
    ),
    Case(
        "chloride_2_water",
        "the SCC of DFTB+ fails once",
        _wrong("dftbplus", "scf-not-converged", first=1),
        preopt=("scf-not-converged@broyden", "success@more-iterations"),
    ),
    Case(
        "ammonia_dimer",
        "DFTB+ crashes every time",
        _wrong("dftbplus", "crash-signal 11"),
        preopt=("crashed@broyden",) * 3,
        single_point=(),
    ),
    Case(
        "water_dimer",
        "the output of another functional, then one cut short",
        _wrong("aims", "wrong-xc", first=1) + _wrong("aims", "truncate 0.9", first=1),
        single_point=("bad-output@plain", "crashed@plain", "success@plain"),
    ),
    Case(
        "water_120",
        "out of memory once",
        _wrong("aims", "out-of-memory", first=1),
        single_point=("out-of-memory@plain", "success@plain+half-ranks"),
    ),
)
"""QCell's five classes, one fragment above 350 atoms, and something of every way to fail."""


def batch_frames() -> list[Atoms]:
    """Fragments of `BATCH`."""
    small = doubles.example(*(case.name for case in BATCH if case.name != "water_120"))
    built = [doubles.water_cluster(120)]
    by_name = {frame.info["name"]: frame for frame in (*small, *built)}
    return [by_name[case.name] for case in BATCH]


def batch_rules() -> list[Rule]:
    """The plan of `BATCH`: every rule for its own fragment, by formula and charge."""
    return [
        rule | {"match": rule["match"] | _only(frame)}
        for case, frame in zip(BATCH, batch_frames(), strict=True)
        for rule in case.rules
    ]


def _only(frame: Atoms) -> Rule:
    formula = physics.formula(physics.Molecule(frame.numbers, frame.positions))
    return {"formula": formula, "charge": int(frame.info["charge"])}


def how(attempt: Attempt) -> str:
    """``kind@rung``, as `Case` has it."""
    kind = attempt.outcome.kind.value if isinstance(attempt.outcome, Failure) else "success"
    rung = attempt.rung
    memory = rung.memory if rung.memory not in {"", "all-ranks"} else ""
    aids = [rung.scf, rung.overlap, memory, rung.basis or ""]
    return f"{kind}@{'+'.join(aid for aid in aids if aid)}"


@dataclass
class Ran:
    """A farm on which a batch ran, and what its store holds."""

    farm: DoubleFarm
    environment: dict[str, str]
    views: dict[str, View] = field(default_factory=dict)  # by name of the fragment
    records: list[Record] = field(default_factory=list)

    def types(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [QFARM, *words],
            cwd=self.farm.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def look(self, uri: str, database: str) -> None:
        with open_store(uri, database) as store:
            self.records = list(store.records(Selection()))
            ids = {row.fragment_id for row in store.rows(Selection())}
            views = [store.view(fragment_id) for fragment_id in ids]
        self.views = {view.fragment.tags[0]: view for view in views}

    def attempts(self, case: Case, stage: str) -> tuple[Attempt, ...]:
        made = self.views[case.name].attempts.values()
        return tuple(one for attempts in made for one in attempts if one.stage == stage)

    def kept(self, case: Case, stage: str, name: str) -> list[str]:
        return self.farm.kept(self.views[case.name].fragment.id, stage, name)

    def record(self, case: Case, stage: str = "single_point") -> Record:
        """The record of a stage, which there must be."""
        wanted = self.views[case.name].fragment.id
        (found,) = [r for r in self.records if (r.fragment_id, r.stage) == (wanted, stage)]
        return found
