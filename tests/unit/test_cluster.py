"""A partition becomes a job script: exact texts, and nothing that breaks out of its line."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm.errors import ConfigError
from qfarm_launchers.batch import script
from qfarm_launchers.cluster import JobOrder, choice, job_name, size
from qfarm_launchers.schedulers import TABLE
from qfarm_schemas.config import Partition

SCRIPTS = Path(__file__).parents[1] / "data" / "jobscripts"
FARM = Path("/home/anna/my farm")
ORDER = JobOrder(
    "cpu-1f3a9c", FARM, FARM / ".qfarm/jobs", "/opt/qfarm/bin/python", ("n1", "n2.hpc")
)

USUAL: Mapping[str, object] = {
    "name": "cpu",
    "queue": "long",
    "account": "chem",
    "slots": 4,
    "threads": 2,
    "memory_mb": 4000,
    "walltime": "1-00:30:00",
    "modules": ("aims/240920", "intel mpi"),
    "prologue": ("ulimit -s unlimited  # 100 % of the stack", 'export A="it\'s $HOME\\n"'),
}
AIMS = {"aims": {"command": "srun -n {ranks} aims.x", "ranks": 16}}
NODES: Mapping[str, object] = {"nodes": 2, "slots": 1, "engines": AIMS}
SMP = {"directives": ("-pe smp 8", "-l h_vmem=3G")}

CASES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "slurm": ("slurm", {"directives": ("--constraint=rome",)}),
    "slurm-gpu": ("slurm", {"gpus": 2, "walltime": None, "account": None}),
    "slurm-nodes": ("slurm", NODES),
    "pbs": ("pbs", {}),
    "pbs-nodes-gpu": ("pbs", {**NODES, "gpus": 4}),
    "sge": ("sge", SMP),
    "lsf": ("lsf", {}),
    "lsf-nodes-gpu": ("lsf", {**NODES, "gpus": 4}),
    "htcondor": ("htcondor", {"queue": None, "directives": ("requirements = HasAVX2",)}),
    "htcondor-gpu": (
        "htcondor",
        {"queue": None, "gpus": 1, "directives": ("request_disk = 5 GB",)},
    ),
    "oar": ("oar", {"directives": ("-t besteffort", "-p \"cluster='big'\"")}),
    "oar-nodes": ("oar", NODES),
    "local": ("local", {}),
}


def partition(scheduler: str, **changes: object) -> Partition:
    own: dict[str, object] = {"scheduler": scheduler}
    own |= {"sge": SMP, "htcondor": {"queue": None}}.get(scheduler, {})
    return Partition.model_validate({**USUAL, **own, **changes})


def written(scheduler: str, order: JobOrder = ORDER, **changes: object) -> str:
    return script(choice(partition(scheduler, **changes), order))


@pytest.mark.parametrize("name", CASES)
def test_job_scripts_are_exactly_these(name: str) -> None:
    scheduler, changes = CASES[name]
    path = SCRIPTS / f"{name}.txt"
    found = written(scheduler, **changes)
    if os.environ.get("QFARM_WRITE") == "1":
        path.write_text(found)
    assert found == path.read_text()


def test_every_scheduler_has_a_script() -> None:
    assert {scheduler for scheduler, _ in CASES.values()} == set(TABLE)
    assert {path.stem for path in SCRIPTS.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_user_s_own_dask_configuration_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, changes = CASES[name]
    hostile = {
        "name": "theirs", "cores": 99, "memory": "9TB", "processes": 9, "interface": "ib0",
        "death-timeout": 9, "local-directory": "/theirs", "worker-extra-args": ["--theirs"],
        "worker-command": "theirs", "shebang": "#!/theirs", "queue": "theirs", "project": "theirs",
        "account": "theirs", "walltime": "99:00:00", "job-script-prologue": ["theirs"],
        "job-extra-directives": ["--theirs"], "job-directives-skip": ["#"], "python": "theirs",
        "log-directory": "/theirs", "resource-spec": "theirs", "job-cpu": 99, "job-mem": "9T",
        "ncpus": 99, "mem": 99, "lsf-units": "TB", "use-stdin": False, "disk": "9TB",
        "memory-per-core-property-name": "theirs", "submit-command-extra": ["--theirs"],
        "extra": None, "env-extra": None, "job-extra": None, "header-skip": None,
    }  # fmt: skip
    monkeypatch.setenv("PBS_ACCOUNT", "theirs")
    with dask.config.set({"jobqueue": dict.fromkeys(TABLE, hostile)}):
        found = written(scheduler, **changes)
        assert dask.config.get("jobqueue.slurm.name") == "theirs"  # and it is theirs afterwards
    assert found == (SCRIPTS / f"{name}.txt").read_text()


def test_job_names_fit_and_begin_with_a_letter() -> None:
    assert job_name("cpu", "1f3a9c") == "cpu-1f3a9c"
    assert job_name("a_very_long_partition", "1f3a9c") == "a_very_l-1f3a9c"
    assert job_name("x", 7) == "x-7"


def test_cores_are_what_all_ranks_of_all_slots_need() -> None:
    def cores(**changes: object) -> int:
        return size(partition("slurm", **changes), ORDER).cores

    assert cores() == 8  # 4 slots of 2 threads
    assert cores(cores=5) == 5
    assert cores(engines=AIMS) == 128  # 4 slots of 16 ranks of 2 threads
    assert cores(engines=AIMS, nodes=3) == 44  # 64 ranks: 22 on a node
    assert size(partition("slurm"), replace(ORDER, ranks=3)).cores == 24  # the farm's own engines


def test_memory_is_that_of_the_slots_and_of_the_workers() -> None:
    assert size(partition("slurm"), ORDER).memory_mb == 4 * 4000 + 4 * 150 + 300
    assert size(partition("slurm", job_memory_mb=9000), ORDER).memory_mb == 9000
    assert "#SBATCH --mem=8584M\n" in written("slurm", job_memory_mb=9000)  # MiB


def test_the_user_s_directives_have_the_last_word() -> None:
    text = written("slurm", gpus=2, directives=("--gpus-per-node=a100:2", "--mem-per-cpu=4G"))
    assert "--gres" not in text
    assert "--mem=" not in text
    assert text.index("--gpus-per-node=a100:2") > text.index("--nodes=1")
    assert "ngpus" not in written("pbs", gpus=2, directives=("-l gputype=a100",))
    skipped = written("htcondor", directives=("request_memory = 1 TB",))
    assert "RequestMemory" not in skipped


@pytest.mark.parametrize(
    ("scheduler", "changes", "words"),
    [
        ("local", {"nodes": 2}, "'local' gives a job one node"),
        ("htcondor", {"nodes": 2}, "'htcondor' gives a job one node"),
        ("htcondor", {"queue": "long"}, "HTCondor has none"),
        ("htcondor", {"directives": ("--constraint=rome",)}, "no entry of a submit file"),
        ("htcondor", {"directives": ("x = y\\",)}, "no entry of a submit file"),
        ("sge", {"directives": ()}, r'directives = \["-pe NAME 8"\]'),
        ("sge", {"directives": (), "nodes": 2}, r"needs 8 cores on 2 node"),
        ("slurm", {"queue": "a b"}, "queue 'a b' of partition 'cpu' has spaces"),
        ("slurm", {"account": "x;rm"}, "account 'x;rm' of partition 'cpu'"),
        ("pbs", {"queue": "$(x)"}, "signs of the shell"),
        ("pbs", {"directives": ("-l a=1\r-q x",)}, "control sign"),
    ],
)
def test_what_a_scheduler_cannot_do_is_said(
    scheduler: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        choice(partition(scheduler, **changes), ORDER)
    assert caught.value.remedy


def test_grid_engine_needs_no_environment_for_one_core() -> None:
    assert "-pe" not in written("sge", directives=(), slots=1, threads=1)


@pytest.mark.parametrize("folder", ["/a$(b)", '/a"b', "/a\nb", "/a\\b", "/a#b'"])
def test_log_folders_that_schedulers_would_misread_are_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match="folder of job logs"):
        choice(partition("slurm"), replace(ORDER, log_folder=Path(folder)))


def test_hosts_from_the_database_are_names_or_nothing() -> None:
    order = replace(ORDER, exclude=("n1", "n2 --wrap=x", "$(x)", "", "n3\n#SBATCH -x"))
    assert choice(partition("slurm"), order).order.exclude == ("n1",)
    assert "#SBATCH --exclude=n1\n" in written("slurm", order)


LINE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029"),
    min_size=1,
    max_size=20,
).filter(str.strip)


def condor_arguments(text: str) -> list[str]:
    """Words of ``Arguments = "..."`` as HTCondor's manual says, macros filled in."""
    line = next(line for line in text.splitlines() if line.startswith("Arguments = "))
    inner = line.removeprefix('Arguments = "').removesuffix('"')
    assert '"' not in inner.replace('""', "")
    inner = inner.replace('""', '"').replace("$(ClusterId).$(ProcId)", "7.0")
    inner = inner.replace("$(DOLLAR)", "$")
    words = re.findall(r"(?:[^\s']|'(?:[^']|'')*')+", inner)
    return [
        re.sub(r"'((?:[^']|'')*)'", lambda found: found[1].replace("''", "'"), word)
        for word in words
    ]


def shell_text(scheduler: str, text: str) -> str:
    """What the shell gets to read on the node."""
    if scheduler != "htcondor":
        return text
    words = condor_arguments(text)
    assert words[0] == "-c"
    assert len(words) == 2
    return words[1]


@pytest.mark.parametrize("scheduler", TABLE)
@given(farm=LINE, python=LINE, directive=LINE)
def test_nothing_breaks_out_of_its_line(
    scheduler: str, farm: str, python: str, directive: str
) -> None:
    order = replace(ORDER, farm=Path("/") / farm, python=python)
    given_directive = f"-x{directive}" if scheduler != "htcondor" else f"x = {directive}."
    pe = ("-pe smp 8",) if scheduler == "sge" else ()
    text = written(scheduler, order, directives=(*pe, given_directive))
    usual = written(scheduler, directives=(*pe, "-xy" if scheduler != "htcondor" else "x = y"))
    assert text.count("\n") == usual.count("\n")
    words = shlex.split(f"exec {text_after(shell_text(scheduler, text), python)}")
    assert words[:4] == ["exec", python, "-m", "qfarm_workers.job"]
    assert words[words.index("--farm") :] == [
        *("--farm", str(order.farm), "--partition", "cpu"),
        *("--job", ORDER.name, "--walltime", "88200", "--slots", "4", "--threads", "2"),
        *("--memory-mb", "4000", "--gpus", "0", "--nodes", "1", "--began", "$QFARM_BEGAN"),
    ]


def text_after(text: str, python: str) -> str:
    """The worker's command without its ``exec``; the script ends with it."""
    start = text.rindex(f"exec {shlex.quote(python)} -m ")
    return text[start:].removeprefix("exec ").strip()


@pytest.mark.parametrize("scheduler", sorted(TABLE))
def test_bash_reads_the_script_as_it_is_meant(scheduler: str, tmp_path: Path) -> None:
    """Run what the node would run: prologue, modules, threads, id, and the command's words."""
    farm = tmp_path / 'it\'s a $(farm) "here" 100%'
    farm.mkdir()
    (tmp_path / "shown.py").write_text(
        "import os, sys\n"
        "print(*sys.argv[1:], sep='\\n')\n"
        "print(os.environ['A'], os.environ['OMP_NUM_THREADS'], os.environ['LOADED'], sep='\\n')\n"
    )
    prologue = (
        f"export PYTHONPATH='{tmp_path}'  # a comment, 100 %",
        "A='two\nlines \\n'",
        "if true; then",
        "  export A",
        "fi",
    )
    order = replace(ORDER, farm=farm, python=sys.executable, module="shown")
    text = shell_text(scheduler, written(scheduler, order, prologue=prologue))
    fake = 'module() { export LOADED="$LOADED<$2>"; }; export -f module\n'
    done = subprocess.run(
        ["bash", "-c", fake + text], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.split("\n")
    assert lines[lines.index("--farm") + 1] == str(farm)
    assert int(lines[lines.index("--began") + 1]) > 1_700_000_000
    assert lines[-5:] == ["two", "lines \\n", "2", "<aims/240920><intel mpi>", ""]


def test_the_choice_needs_no_dask() -> None:
    code = (
        "import sys, qfarm_launchers.cluster, qfarm_launchers.batch; print('dask' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
