"""What `qfarm launch` and the doctor say before a job is submitted: commands, ways to MongoDB."""

from pathlib import Path

import pytest

from qfarm import config
from qfarm.cli import launch
from qfarm.cli.doctor import places
from qfarm.cli.doctor.finding import Verdict
from qfarm.cli.launch import Options, detached, print_scripts, run
from qfarm.cli.reach import TUNNEL, unreached
from qfarm.config import Farm
from qfarm.errors import ConfigError, StoreError

CPU = """\
[[partitions]]
name = "cpu"
scheduler = "slurm"
walltime = 3600
slots = 1
"""
NO_TUNNEL = (
    "jobs of partition 'cpu' open no tunnel to the farm's MongoDB, which listens on 127.0.0.1 of "
    "this machine alone"
)


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Farm:
    """A farm without MongoDB, on a machine without a scheduler."""
    (tmp_path / "qfarm.toml").write_text(CPU)
    (tmp_path / "commands").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "commands"))
    monkeypatch.chdir(tmp_path)
    return config.load()


def changed(farm: Farm, text: str) -> Farm:
    (farm.root / "qfarm.toml").write_text(text)
    return config.load()


def put(farm: Farm, *names: str) -> None:
    for name in names:
        (farm.root / "commands" / name).symlink_to("/bin/true")


def test_without_the_scheduler_s_commands_nothing_is_launched(farm: Farm) -> None:
    put(farm, "squeue", "sinfo")
    for begin in (lambda: run(Options(("cpu",))), lambda: detached(farm, Options())):
        with pytest.raises(ConfigError) as caught:
            begin()
        assert caught.value.what == (
            "partition 'cpu' needs sbatch, scancel, which are not on the PATH of this machine"
        )
        assert caught.value.remedy == launch.NO_SCHEDULER
    assert not (farm.folder / "log").exists(), "nothing was started"


def test_a_script_can_be_shown_anywhere(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    print_scripts(farm, Options())
    shown = capsys.readouterr()
    assert "#SBATCH" in shown.out
    assert "tunnel" not in shown.err


def test_a_launcher_warns_once_of_a_mongodb_that_jobs_do_not_reach(
    farm: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    put(farm, "sbatch", "scancel", "squeue", "sinfo")
    with pytest.raises(StoreError):  # there is none at all
        run(Options())
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("warning:") == 1
    assert f"warning: {NO_TUNNEL}. {TUNNEL}" in said


def test_where_no_tunnel_is_opened(farm: Farm) -> None:
    partitions = farm.config.partitions
    assert unreached(farm, partitions) == NO_TUNNEL
    (finding,) = places.reach(farm, partitions)
    assert (finding.verdict, finding.what, finding.cure) == (Verdict.WARNING, NO_TUNNEL, TUNNEL)


@pytest.mark.parametrize(
    "text",
    [
        CPU + 'prologue = ["bash ~/qfarm/tunnel.sh login 27117 127.0.0.1:27117 || exit 1"]\n',
        CPU + 'prologue = ["ssh -fN -L 27117:127.0.0.1:27117 login"]\n',
        CPU.replace("slurm", "local"),
        '[mongo]\nuri = "mongodb://db.example.org:27017/?replicaSet=rs0"\n' + CPU,
        '[mongo]\nuri_file = "nowhere"\n' + CPU,
        "",
    ],
)
def test_where_nothing_speaks_against_it(farm: Farm, text: str) -> None:
    other = changed(farm, text)
    assert unreached(other, other.config.partitions) == ""
    assert list(places.reach(other, other.config.partitions)) == []
