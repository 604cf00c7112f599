"""Where and with what a worker runs, read from what machines, schedulers and pip leave."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from threading import Event

import pytest

from qfarm_schemas.attempt import Environment
from qfarm_workers import attempt, surroundings
from qfarm_workers.bench import Bench
from qfarm_workers.prepare import Prepared
from qfarm_workers.process import EngineProcess
from qfarm_workers.scratch import Scratch
from qfarm_workers.surroundings import commit_of, cpu, gpu, head, node_list, scheduler_job
from support.claims import PARTITION, claim
from support.engines import look_up

X86 = """processor	: 0
vendor_id	: AuthenticAMD
model name	: AMD EPYC 7763  64-Core Processor
processor	: 1
model name	: AMD EPYC 7763  64-Core Processor
"""

ARM = """processor	: 0
BogoMIPS	: 50.00
CPU implementer	: 0x41
CPU architecture: 8
CPU part	: {part}
"""

POWER = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 3800.000000MHz\n"

GPU = """Model: 		 NVIDIA H100 80GB HBM3
IRQ:   		 10
GPU UUID: 	 GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3{last}
Bus Type: 	 PCIe
Device Minor: 	 {last}
"""

H100 = [("NVIDIA H100", f"GPU-{number}abc") for number in range(4)]


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (X86, "AMD EPYC 7763 64-Core Processor"),
        (ARM.format(part="0xd4f"), "ARM Neoverse-V2"),
        (ARM.format(part="0xfff"), "ARM part 0xfff"),
        (ARM.format(part="0x001").replace("0x41", "0x46"), "Fujitsu A64FX"),
        (ARM.format(part="0x002").replace("0x41", "0x99"), "implementer 0x99 part 0x002"),
        (POWER, "POWER9, altivec supported"),
        ("", ""),
    ],
)
def test_processors(text: str, model: str) -> None:
    assert cpu(text) == model


@pytest.mark.parametrize(
    ("visible", "words"),
    [
        (None, "4 x NVIDIA H100"),
        ("0", "NVIDIA H100"),
        ("1,3", "2 x NVIDIA H100"),
        ("GPU-2ab", "NVIDIA H100"),
        ("MIG-41b3359c-e721-56e5-8009-12e5797ed514", "part of NVIDIA H100"),
        ("", ""),
        ("-1", ""),
        ("NoDevFiles", ""),
        ("7", ""),
        ("GPU-unknown", ""),
    ],
)
def test_only_gpus_that_may_be_used_count(visible: str | None, words: str) -> None:
    assert gpu(H100, visible) == words


def test_different_gpus_are_told_apart() -> None:
    assert gpu([("A100", "a"), ("T4", "b"), ("A100", "c")], None) == "2 x A100, T4"
    assert gpu([], "0") == gpu([], "MIG-1") == ""


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({"SLURM_JOB_ID": "4711"}, "4711"),
        ({"PBS_JOBID": "123.server"}, "123.server"),
        ({"LSB_JOBID": "77"}, "77"),
        ({"LSB_JOBID": "77", "LSB_JOBINDEX": "0"}, "77"),
        ({"LSB_JOBID": "77", "LSB_JOBINDEX": "3"}, "77[3]"),
        ({"OAR_JOB_ID": "9"}, "9"),
        ({"JOB_ID": "5", "SGE_ROOT": "/opt/sge"}, "5"),
        ({"JOB_ID": "5"}, ""),  # anybody may call a variable so
        ({"_CONDOR_JOB_AD": "/nowhere/.job.ad"}, ""),
        ({}, ""),
    ],
)
def test_the_id_of_the_batch_job(variables: dict[str, str], job: str) -> None:
    assert scheduler_job(variables) == job


def test_a_job_of_htcondor_reads_its_advertisement(tmp_path: Path) -> None:
    (tmp_path / ".job.ad").write_text('ClusterId = 12\nCmd = "/bin/a=b"\nProcId = 3\n')
    assert scheduler_job({"_CONDOR_JOB_AD": str(tmp_path / ".job.ad")}) == "12.3"


def test_nodes_are_listed_where_there_are_several(tmp_path: Path) -> None:
    assert node_list({"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}) == ""
    assert node_list({"SLURM_JOB_NODELIST": "n[1-4]", "SLURM_JOB_NUM_NODES": "4"}) == "n[1-4]"
    hosts = tmp_path / "hosts"
    hosts.write_text("n1 8 all.q@n1 <NULL>\nn2 8 all.q@n2 <NULL>\nn1 1 x y\n\n")
    assert node_list({"PE_HOSTFILE": str(hosts)}) == "n1,n2"
    hosts.write_text("n1\nn1\n")
    assert node_list({"PBS_NODEFILE": str(hosts)}) == ""
    assert node_list({"LSB_HOSTS": "n1 n1 n3"}) == "n1,n3"
    assert node_list({}) == ""


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=q", "-c", "user.email=q@example.org")
    done = subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def committed(folder: Path) -> str:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_of_an_editable_checkout_is_read_without_git(tmp_path: Path) -> None:
    commit = committed(tmp_path / "a b")
    told = {"url": (tmp_path / "a b").as_uri(), "dir_info": {"editable": True}}
    assert commit_of(json.dumps(told)) == commit
    git(tmp_path / "a b", "pack-refs", "--all")
    assert head(tmp_path / "a b") == commit
    git(tmp_path / "a b", "worktree", "add", "-q", "-b", "other", str(tmp_path / "tree"))
    assert head(tmp_path / "tree") == commit
    git(tmp_path / "a b", "checkout", "-q", "--detach")
    assert head(tmp_path / "a b") == commit


def test_the_commit_of_what_pip_took_from_a_repository() -> None:
    told = {"url": "https://example.org/qfarm", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}
    assert commit_of(json.dumps(told)) == "abc123"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"url": "x"}', '{"vcs_info": {}}'])
def test_a_commit_that_is_not_known_is_none(text: str) -> None:
    assert commit_of(text) == ""


def test_a_folder_without_a_repository_has_no_commit(tmp_path: Path) -> None:
    told = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    assert commit_of(json.dumps(told)) == ""


def test_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(X86)
    for number in range(2):
        folder = tmp_path / "driver/nvidia/gpus" / f"0000:{number}2:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(GPU.format(last=number))
    variables = {
        "CUDA_VISIBLE_DEVICES": "0,GPU-9221d5d1-b60b-a624-bf14-0a1819cfda31",
        "LOADEDMODULES": "gcc/12.2:openmpi/4.1",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "n[1-400]" * 200,
        "SLURM_JOB_NUM_NODES": "400",
    }
    found = surroundings.surroundings(variables, tmp_path)
    assert found == Environment(
        cpu="AMD EPYC 7763 64-Core Processor",
        gpu="2 x NVIDIA H100 80GB HBM3",
        modules=("gcc/12.2", "openmpi/4.1"),
        qfarm=found.qfarm,
        scheduler_job="4711",
        node_list=("n[1-400]" * 200)[: surroundings.LONGEST],
    )
    assert found.qfarm.split()[0] == version("qfarm")


def test_a_bare_machine(tmp_path: Path) -> None:
    found = surroundings.surroundings({}, tmp_path)
    assert found == Environment(qfarm=found.qfarm)


def test_this_machine() -> None:
    assert surroundings.surroundings().cpu


def test_every_attempt_carries_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # for engine processes
    here = Environment(cpu="EPYC", scheduler_job="4711")
    with EngineProcess(tmp_path, threads=1) as process:
        bench = Bench(process, Scratch(tmp_path), PARTITION, look_up, environment=here)
        prepared = attempt.prepare(claim("good"), bench)
        assert isinstance(prepared, Prepared)
        made = attempt.run(prepared, bench, Event())
    assert made is not None
    assert made.record is not None
    assert made.attempt.environment == here
