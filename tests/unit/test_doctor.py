"""The doctor's parts that need neither MongoDB nor an engine."""

import shutil
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest
from rich.console import Console

from qfarm.cli.doctor import places, setup, show, trial
from qfarm.cli.doctor.finding import Finding, Verdict
from qfarm.config import Farm
from qfarm.engines import TABLE, engine
from qfarm.sites import Missing
from qfarm.store.protocol import Need
from qfarm_schemas.config import FarmConfig, Partition, TaskKind
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier, LevelOfTheory
from support.build import PBE0

Usage = namedtuple("Usage", "total used free")

GOOD = Finding("MongoDB", "6.0.5")
BAD = Finding("aims", "not found", Verdict.FAULT, "there is no 'aims.x'", "Write\n[engines.aims]")
NOTE = Finding("dftbplus", "not found", Verdict.NOT_SET_UP, "there is none", "Install it.")


def nothing_lacks(fragment: Fragment, level: LevelOfTheory) -> None:
    """Every parameter file is there."""


def need(tier: BasisTier, stages: int = 1) -> Need:
    level = PBE0.model_copy(update={"basis": tier})
    return Need(level, TaskKind.SINGLE_POINT, None, frozenset({frozenset({1, 8})}), stages)


def shown(*findings: Finding) -> str:
    console = Console(width=120)
    with console.capture() as caught:
        show.show(findings, console)
    return caught.get()


@pytest.mark.parametrize(
    ("free_mb", "verdict"),
    [(40, Verdict.FAULT), (4000, Verdict.WARNING), (6000, Verdict.OK)],
)
def test_scratch_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_mb: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free_mb * 2**20))
    finding = places.scratch(tmp_path / "scratch")
    assert finding.verdict is verdict
    assert f"{free_mb:,} MB free" in finding.found
    assert ("scratch = " in finding.cure) is (verdict is not Verdict.OK)


def test_scratch_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    finding = places.scratch(tmp_path / "scratch")
    assert finding.verdict is Verdict.FAULT
    assert str(tmp_path / "scratch") in finding.what


def on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_no_cluster_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch)
    finding = places.commands((Partition(),))
    assert (finding.verdict, finding.what) == (Verdict.OK, "")
    assert finding.found == "none on PATH; no partition needs any"


def test_commands_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, "sbatch", "squeue")
    finding = places.commands((Partition(),))
    assert finding.found == "Slurm: sbatch, squeue (no scancel, sacct, srun)"
    assert finding.verdict is Verdict.OK


def test_commands_that_a_partition_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, "sbatch", "squeue", "sinfo")
    cpu = Partition(name="cpu", scheduler="slurm", slots=1)
    finding = places.commands((Partition(), cpu))
    assert finding.verdict is Verdict.FAULT
    assert finding.what == "partition cpu needs scancel: not on PATH"
    on_path(tmp_path, monkeypatch, "scancel")
    assert places.commands((cpu,)).verdict is Verdict.OK, "sacct is not needed"


@pytest.mark.parametrize("name", TABLE)
def test_every_engine_has_a_level_for_water_and_a_way_to_be_set_up(name: str) -> None:
    assert trial.LEVELS[name]
    for level in trial.LEVELS[name]:
        assert engine(name).refuse(trial.WATER, level, TaskKind.SINGLE_POINT) is None
    assert (name in setup.WHEELS) != (name in setup.LINES)


@pytest.mark.parametrize("name", setup.LINES)
def test_the_lines_to_write_are_valid(name: str) -> None:
    config = FarmConfig.model_validate(tomllib.loads(setup.LINES[name]))
    assert config.engines[name].parameters
    assert config.engines[name].command


def test_a_table_that_is_there_is_not_written_twice() -> None:
    cure = setup.cure_of(engine("dftbplus"), Partition(), None, there=True)
    assert "in the table [engines.dftbplus]" in cure
    assert "\n[engines.dftbplus]" not in cure
    assert "\n[engines.dftbplus]" in setup.cure_of(engine("dftbplus"), Partition(), None, False)


def test_queued_levels_are_tried_smallest_basis_first_and_not_too_many() -> None:
    needs = [need(tier) for tier in (BasisTier.TIGHT, BasisTier.LIGHT, BasisTier.TIGHT)]
    found = trial.levels(engine("pyscf"), needs, nothing_lacks)
    assert [level.basis for level in found] == [BasisTier.LIGHT, BasisTier.TIGHT]
    betas = [PBE0.model_copy(update={"mbd_beta": 0.8 + i / 100}) for i in range(9)]
    many = [Need(level, TaskKind.SINGLE_POINT, None, frozenset(), 1) for level in betas]
    assert len(trial.levels(engine("pyscf"), many, nothing_lacks)) == trial.MOST_LEVELS


def test_without_a_queue_the_first_tier_that_is_there_is_tried() -> None:
    def only_tight(fragment: Fragment, level: LevelOfTheory) -> Missing | None:
        return None if level.basis is BasisTier.TIGHT else Missing("it lacks", "get it")

    def nothing(fragment: Fragment, level: LevelOfTheory) -> Missing:
        return Missing("it lacks", "get it")

    def tiers(missing: object) -> list[BasisTier]:
        return [level.basis for level in trial.levels(engine("aims"), (), missing)]

    assert tiers(only_tight) == [BasisTier.TIGHT]
    assert tiers(nothing_lacks) == tiers(nothing) == [BasisTier.LIGHT]


def test_faults_come_first_and_show_their_cure_as_it_is() -> None:
    text = shown(GOOD, NOTE, BAD)
    assert text.index("FAULT: aims: there is no 'aims.x'") < text.index("not set up: dftbplus")
    assert "\n  Write\n  [engines.aims]\n" in text
    assert text.rstrip().endswith("1 fault: work that needs it will fail until it is cured.")
    assert shown(GOOD, NOTE).rstrip().endswith("No fault.")


def test_as_values() -> None:
    found = show.as_dict((GOOD, BAD))
    assert found["ok"] is False
    assert [check["verdict"] for check in found["checks"]] == ["ok", "fault"]
    assert show.as_dict((GOOD, NOTE))["ok"] is True


def test_what_earlier_visits_kept_is_removed(tmp_path: Path) -> None:
    farm = Farm(tmp_path, FarmConfig())
    old = farm.scratch / trial.FOLDER / "4194399.aims.l123"  # beyond any pid
    running = farm.scratch / trial.FOLDER / "1.aims.l123"
    for folder in (old, running):
        folder.mkdir(parents=True)
    trial.sweep(farm)
    assert not old.exists()
    assert running.exists()
