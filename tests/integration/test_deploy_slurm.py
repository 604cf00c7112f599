"""`deploy/slurm/launcher.sbatch` on a real Slurm; a stand-in for ``qfarm`` says what it is told."""

from pathlib import Path

import pytest

from support.slurm import Slurm
from support.wait import until

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "launcher.sbatch"
SIZE = {"--time=2-00:00:00": "--time=00:05:00", "--mem=1G": "--mem=100M"}

QFARM = """#!/bin/bash
echo "$SLURM_CONF $*" >>said
trap 'echo ended >>said; exit 130' TERM
while [ ! -e drained ]; do sleep 0.1; done
"""


def test_a_launcher_renews_itself_until_it_is_drained(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SCRIPT.read_text()
    for documented, here in SIZE.items():
        assert documented in text
        text = text.replace(documented, here)
    (tmp_path / "launcher.sbatch").write_text(text)
    program = tmp_path / "qfarm" / "bin" / "qfarm"
    program.parent.mkdir(parents=True)
    program.write_text(QFARM)
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = tmp_path / "said"

    first = slurm.command("sbatch", "--parsable", "launcher.sbatch").strip()
    until(said.exists)
    until(lambda: len(slurm.jobs()) == 2)
    (second,) = slurm.jobs().keys() - {first}
    assert slurm.jobs() == {first: "RUNNING", second: "PENDING"}

    slurm.command("scancel", "--batch", "--signal=TERM", first)  # as 300 s before its end
    until(lambda: slurm.jobs().get(second) == "RUNNING")
    until(lambda: said.read_text().count("launch") == 2)
    assert said.read_text().splitlines() == [
        f"{slurm.conf} launch",
        "ended",
        f"{slurm.conf} launch",
    ]

    (tmp_path / "drained").touch()
    until(lambda: not slurm.jobs())
    assert said.read_text().count("launch") == 2
