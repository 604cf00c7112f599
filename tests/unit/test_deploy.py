"""The files of `deploy/`: they parse, name commands and settings that there are, hold no secret."""

import configparser
import os
import re
import shutil
import signal
import subprocess
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from qfarm import config
from qfarm.cli import COMMANDS, LazyGroup, app
from qfarm_launchers.cluster import JobOrder, choice, job_name
from qfarm_launchers.jobs import script
from qfarm_schemas.config import Partition
from support.needs import need
from support.wait import until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
FARMS = sorted(DEPLOY.glob("*/qfarm.toml"))
LAUNCHERS = {"slurm/launcher.sbatch": signal.SIGTERM, "sge/launcher.sh": signal.SIGUSR1}
COMPOSE = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def understood(words: list[str]) -> None:
    """Raise unless ``qfarm`` takes these words; nothing is run."""
    group = get_command(app)
    assert isinstance(group, LazyGroup)
    context: Any = group.make_context("qfarm", list(words), resilient_parsing=True)
    name, command, rest = group.resolve_command(context, list(words))
    assert name in COMMANDS
    while rest and hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
    command.make_context(name, rest)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_start_commands_that_there_are(path: Path) -> None:
    service = unit(path)["Service"]
    for key in ("ExecStart", "ExecStop"):
        if key in service:
            program, *words = service[key].split()
            assert program == "%h/qfarm/bin/qfarm"
            understood(words)
    assert service["WorkingDirectory"] == "%f"
    assert service["Restart"] == "on-failure"
    assert "://" not in path.read_text().replace("https://", "")


def test_no_option_is_taken_that_there_is_not() -> None:
    """What the tests above rely on."""
    with pytest.raises(Exception, match="No such option"):
        understood(["up", "--hear"])


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    need(shutil.which("systemd-analyze"), "systemd-analyze")
    program = tmp_path / "qfarm" / "bin" / "qfarm"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environment = os.environ | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    words = ["systemd-analyze", "--user", "verify", *map(str, UNITS)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_pid_file_is_where_the_server_keeps_it() -> None:
    farm = config.Farm(Path("%f"), config.FarmConfig())
    pid_file = unit(DEPLOY / "systemd" / "qfarm-mongod@.service")["Service"]["PIDFile"]
    assert pid_file == str(farm.mongo_folder / "data" / "mongod.lock")


@pytest.mark.parametrize("path", FARMS, ids=lambda path: path.parent.name)
def test_examples_are_farms(path: Path) -> None:
    farm = config.load(path.parent)
    assert {p.scheduler for p in farm.config.partitions} == {path.parent.name}
    cpu, wide, gpu = farm.config.partitions
    assert cpu.cores == cpu.slots * cpu.threads
    assert wide.cores is not None
    assert wide.engines["aims"].ranks * wide.threads == wide.nodes * wide.cores
    assert gpu.slots == gpu.gpus
    assert gpu.engines["pyscf"].by == "gpu4pyscf"
    assert set(gpu.takes_engines) <= set(cpu.takes_engines)  # what spills over can run there
    assert gpu.spill_to == (cpu.name,)


@pytest.mark.parametrize(
    ("scheduler", "partition", "lines"),
    [
        ("slurm", "cpu", {"#SBATCH -n 1", "#SBATCH --cpus-per-task=16", "#SBATCH -t 12:00:00"}),
        ("slurm", "wide", {"#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=64"}),
        ("slurm", "gpu", {"#SBATCH --gres=gpu:4", "#SBATCH --cpus-per-task=16"}),
        ("sge", "cpu", {"#$ -pe smp 16", "#$ -l h_vmem=2G", "#$ -l h_rt=12:00:00"}),
        ("sge", "wide", {"#$ -pe mpi_64 128", "export OMP_NUM_THREADS=1"}),
        ("sge", "gpu", {"#$ -pe smp 16", "#$ -l gpu=4"}),
    ],
)
def test_examples_make_job_scripts(scheduler: str, partition: str, lines: set[str]) -> None:
    farm = config.load(DEPLOY / scheduler)
    (chosen,) = (one for one in farm.config.partitions if one.name == partition)
    name, home = job_name(partition, 1), Path("/home/me")
    order = JobOrder(name, home / "farm", home / "farm" / ".qfarm" / "log", "/home/me/qfarm/python")
    written = script(choice(chosen, order)).splitlines()
    assert lines <= set(written)
    assert f"module load {chosen.modules[0]}" in written
    assert sum(line.startswith("#$ -l gpu") or "--gres" in line for line in written) == (
        partition == "gpu"
    )
    cores = re.findall(
        r"--(?:cpus-per-task|ntasks-per-node)=(\d+)|-pe \S+ (\d+)", "\n".join(written)
    )
    assert (
        max(int(number) for pair in cores for number in pair if number)
        == {
            "cpu": 16,
            "wide": 64 if scheduler == "slurm" else 128,
            "gpu": 16,
        }[partition]
    )


@pytest.mark.parametrize("path", FARMS, ids=lambda path: path.parent.name)
def test_the_commented_tunnel_fits_the_script(path: Path) -> None:
    (line,) = re.findall(r'^# prologue = \["(.*)"\]$', path.read_text(), re.MULTILINE)
    partition = Partition(prologue=(line,))
    program, script, *words = partition.prologue[0].removesuffix(" || exit 1").split()
    assert (program, Path(script).name) == ("bash", "tunnel.sh")
    assert len(words) == 3
    assert (DEPLOY / "tunnel.sh").is_file()


SHELL = [p for p in sorted(DEPLOY.rglob("*")) if p.suffix in {".sh", ".sbatch"}]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_scripts_parse(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True, timeout=20)


class Desk:
    """A folder with a launcher script and stand-ins for ``qfarm`` and the scheduler's commands."""

    def __init__(self, folder: Path, script: str) -> None:
        self.folder, self.script = folder, script
        bin_ = folder / "qfarm" / "bin"
        bin_.mkdir(parents=True)
        for name in ("sbatch", "scancel", "qsub", "qdel"):
            self._program(bin_ / name, f'echo "{name} $*" >>{folder}/said; echo 4711')
        self._program(bin_ / "qfarm", f'echo "qfarm $*" >>{folder}/said; . {folder}/does')
        self._program(bin_ / "sleep", "exec /bin/sleep 0.05" if script else "")

    def starts(self, does: str) -> "subprocess.Popen[bytes]":
        (self.folder / "does").write_text(does)
        return subprocess.Popen(
            ["bash", str(DEPLOY / self.script)],
            cwd=self.folder,
            env={
                "HOME": str(self.folder),
                "PATH": os.environ["PATH"],
                "JOB_ID": "17",
                "SLURM_JOB_ID": "17",
                "SLURM_CPUS_PER_TASK": "1",
                "SLURM_CONF": "/etc/slurm.conf",
            },
        )

    @property
    def said(self) -> list[str]:
        return (self.folder / "said").read_text().splitlines()

    def _program(self, path: Path, text: str) -> None:
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)


@pytest.fixture(params=LAUNCHERS)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Desk:
    return Desk(tmp_path, request.param)


def test_a_launcher_job_has_a_successor_unless_it_was_drained(desk: Desk) -> None:
    assert desk.starts("exit 0").wait(20) == 0
    submitted, launched, cancelled = desk.said
    assert re.fullmatch(
        r"(sbatch --parsable --dependency=afterany:|qsub -terse -hold_jid )17 .*", submitted
    )
    assert launched == "qfarm launch"
    assert re.fullmatch("(scancel|qdel) 4711", cancelled)


def test_pages_and_scripts_name_commands_that_there_are() -> None:
    files = (*DEPLOY.glob("*.md"), *DEPLOY.glob("s*/*"))
    found = [re.findall(r"qfarm (launch(?:er [a-z]+| --[a-z-]+)?)", f.read_text()) for f in files]
    named = set(chain.from_iterable(found))
    assert named >= {"launch", "launch --dry-run", "launch --detach", "launcher drain"}
    for words in named:
        understood(words.split())


def test_a_launcher_that_fails_is_started_again(desk: Desk) -> None:
    again = f"[ -e {desk.folder}/once ] && exit 0; touch {desk.folder}/once; exit 1"
    assert desk.starts(again).wait(20) == 0
    assert desk.said[1:3] == ["qfarm launch"] * 2
    assert len(desk.said) == 4


def test_near_its_end_the_job_ends_the_launcher_and_leaves_the_successor(desk: Desk) -> None:
    waits = (
        f"trap 'echo ended >>{desk.folder}/said; exit 0' TERM; while :; do /bin/sleep 0.05; done"
    )
    job = desk.starts(f"{waits}")
    until(
        lambda: (
            "qfarm launch" in (desk.folder / "said").read_text()
            if (desk.folder / "said").exists()
            else False
        )
    )
    job.send_signal(LAUNCHERS[desk.script])
    assert job.wait(20) == 0
    assert desk.said[1:] == ["qfarm launch", "ended"]


def test_jobs_of_the_farm_do_not_inherit_the_launchers_size(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "slurm/launcher.sbatch")
    assert desk.starts(f"env >{tmp_path}/env; exit 0").wait(20) == 0
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert {name for name in names if name.startswith("SLURM_")} == {"SLURM_CONF"}


def test_compose_publishes_on_loopback_alone() -> None:
    published = [
        port for service in COMPOSE["services"].values() for port in service.get("ports", ())
    ]
    assert sorted(published) == ["127.0.0.1:27017:27017", "127.0.0.1:5000:5000"]


def test_compose_gives_each_service_only_its_own_secrets() -> None:
    mounts = {
        name: {mount.split(":")[0] for mount in service["volumes"]}
        for name, service in COMPOSE["services"].items()
    }
    assert mounts["page"] == {"page"}
    assert mounts["work"] == {"work", "farm"}
    assert set().union(*mounts.values()) == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", ["Containerfile", "qfarm.def"])
def test_images_copy_what_is_there_and_pin_their_base(name: str) -> None:
    text = (DEPLOY / "container" / name).read_text()
    assert re.search(r"^(?:FROM|From:) \S*python:3\.11\.\d+-slim-bookworm$", text, re.MULTILINE)
    lines = re.findall(r"^(?:COPY |    )((?:[\w.]+ )+)/opt/qfarm/", text, re.MULTILINE)
    copied = {word for line in lines for word in line.split()}
    assert copied >= {
        "pyproject.toml",
        "constraints.txt",
        "qfarm",
        "workers",
        "launchers",
        "schemas",
    }
    assert [word for word in copied if not (ROOT / word).exists()] == []


def test_nothing_is_told_of_listening_everywhere_without_a_reason() -> None:
    """Only inside compose's own network, where `ports` decides who reaches it."""
    files = [p for p in DEPLOY.rglob("*") if p.is_file() and p.suffix not in {".pyc", ".md"}]
    assert {p.name for p in files if "0.0.0.0" in p.read_text()} == {"compose.yaml"}


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.rglob("*.md")), ids=lambda p: str(p.relative_to(DEPLOY))
)
def test_pages_name_files_that_there_are(path: Path) -> None:
    named = re.findall(
        r"`([\w./@-]+\.(?:md|sh|toml|service|sbatch|yaml|py|def|conf|json))`", path.read_text()
    )
    missing = [
        name
        for name in named
        if "/" in name and not any((top / name).exists() for top in (path.parent, ROOT))
    ]
    assert missing == []
