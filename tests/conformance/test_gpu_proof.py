"""The script that proves the GPU, rehearsed: GPU time is too scarce to find its faults there."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.needs import need

need(find_spec("pyscf"), "pyscf")

from gpu import prove  # noqa: E402
from gpu.cases import CASES, RADICALS  # noqa: E402


def test_a_rehearsal_agrees_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "proof.json"
    assert prove.main(["--rehearse", "--threads", "1", "--repeats", "1", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [(one["name"], one["rung"]) for one in found] == [
        (case.name, case.rung) for case in CASES[: prove.REHEARSED]
    ]
    assert all(one["energy"] == one["forces"] == one["ratios"] == 0.0 for one in found)
    shown = capsys.readouterr().out
    assert "2 compared, 0 beyond 1e-06 eV, 1e-05 eV/A" in shown
    assert "no GPU, PySCF" in shown


def test_without_time_nothing_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    assert prove.main(["--rehearse", "--threads", "1", "--seconds", "-1"]) == 2
    assert "no time was left for: hydroxyl tight, hydroxyl intermediate" in capsys.readouterr().out


@pytest.mark.parametrize("field", ["energy", "forces", "ratios"])
def test_a_difference_is_seen(field: str) -> None:
    good = prove.Proof("x", 2, "tight", "diis", 0.9e-6, 0.9e-5, 0.9e-5, 4.0, 2.0, 9, 9, "v")
    assert good.agrees
    assert "| 2.0 | yes |" in good.row
    bad = replace(good, **{field: 1.1e-5 if field != "energy" else 1.1e-6})
    assert not bad.agrees
    assert bad.row.endswith("| NO |")


def test_the_cases_are_many_and_of_all_kinds() -> None:
    names = {case.name for case in CASES}
    assert len(names) >= 8
    assert {case.tier for case in CASES} == {"intermediate", "tight"}
    assert {case.rung for case in CASES} == {"diis", "damped", "level-shift", "newton"}
    assert names >= set(RADICALS)
    assert max(case.fragment.n_atoms for case in CASES) == 30
