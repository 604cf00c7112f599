"""A real Slurm for the tests: private, on loopback, without systemd; one for each test process.

Nodes ``c1`` and ``c2`` (8 cores each) are in partition ``cpu``, node ``g1`` with two GPUs that are
not there is in partition ``gpu``; all are this host. Refused submissions need limits: no job may
be longer than ten minutes. Daemons and jobs are found by their pid files and by ``SLURM_CONF``.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.needs import need
from support.wait import gone, lives, until

NODES = ("c1", "c2", "g1")
SBIN = "/usr/sbin:/sbin"

CONFIGURATION = """\
ClusterName=qfarm
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge/sock
CredType=cred/munge
SlurmctldPort={port}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/pid/slurmctld
SlurmdPidFile={root}/pid/%n
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobcomp.txt
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=0,bf_min_age_reserve=0
ReturnToService=2
SlurmdParameters=config_overrides
LaunchParameters=disable_send_gids
EnforcePartLimits=ALL
KillWait=5
OverTimeLimit=0
InactiveLimit=0
MinJobAge=300
SlurmctldTimeout=10
SlurmdTimeout=15
MessageTimeout=5
JobRequeue=1
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
GresTypes=gpu
DefMemPerCPU=500
{nodes}
PartitionName=cpu Nodes=c1,c2 Default=YES DefaultTime=00:05:00 MaxTime=00:10:00 State=UP
PartitionName=gpu Nodes=g1 Default=NO DefaultTime=00:05:00 MaxTime=00:10:00 State=UP
"""
"""Without CommunicationParameters it would listen on every interface; without DefMemPerCPU one job
takes all memory of a node."""


def program(name: str) -> str | None:
    """Path of a command; daemons are often not on the PATH of users."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def free_ports(number: int) -> list[int]:
    """Ports on loopback that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [int(listener.getsockname()[1]) for listener in listeners]


class Slurm:
    """The running Slurm.

    Attributes
    ----------
    root : Path
        Folder of all its files.
    conf : Path
        What ``SLURM_CONF`` must name.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "slurm.conf"

    def start(self) -> None:
        """Start everything; returns when all nodes are idle."""
        self._write()
        self._daemon(
            "munged",
            f"--key-file={self.root}/munge/key",
            f"--socket={self.root}/munge/sock",
            f"--pid-file={self.root}/pid/munged",
            f"--log-file={self.root}/log/munged.log",
            f"--seed-file={self.root}/munge/seed",
            "--num-threads=2",
            "--force",
        )
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_idle()

    def stop(self) -> None:
        """Cancel all jobs, stop the daemons, and kill what is left of the jobs."""
        if self._lives("slurmctld"):
            with contextlib.suppress(AssertionError, TimeoutError, subprocess.SubprocessError):
                self.command("scancel", "--user", getpass.getuser())
                until(lambda: not self.jobs(), 8)
        for name in (*NODES, "slurmctld", "munged"):
            self._kill(name, signal.SIGTERM, wait=False)
        for process in self._job_processes():
            process.kill()
        for name in (*NODES, "slurmctld", "munged"):
            self._kill(name, signal.SIGKILL)

    def command(self, *words: str, check: bool = True) -> str:
        """Standard output of a Slurm command."""
        environment = os.environ | {"SLURM_CONF": str(self.conf)}
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Id -> state of all jobs that have not ended."""
        lines = self.command("squeue", "--noheader", "--format=%i %T").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def nodes(self) -> dict[str, str]:
        """Node -> state, as ``idle`` or ``drained``."""
        lines = self.command("sinfo", "--noheader", "-N", "--format=%N %t").splitlines()
        return dict(line.split() for line in lines)

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Return when no job is left and every node is idle."""
        until(lambda: self.nodes() == dict.fromkeys(NODES, "idle") and not self.jobs(), seconds)

    def stop_controller(self) -> None:
        """Stop slurmctld in order, as for maintenance: it saves its state."""
        self._kill("slurmctld", signal.SIGTERM)

    def kill_controller(self) -> None:
        """Kill slurmctld, as a crash of its machine would.

        It saves its state some seconds after each change: what was submitted just before may be
        forgotten while it runs, and its node is drained ("Duplicate jobid") when that id is given
        again; `resume` mends it.
        """
        self._kill("slurmctld", signal.SIGKILL)

    def start_controller(self) -> None:
        """Start slurmctld; returns when it answers. It goes on from the state it saved."""
        self._daemon("slurmctld", "-f", str(self.conf))
        until(lambda: "UP" in self.command("scontrol", "ping", check=False), 15)

    def wait_known(self) -> None:
        """Return when a controller that was started again has heard of every node."""
        until(lambda: not any(state.startswith("unk") for state in self.nodes().values()))

    def kill_node(self, node: str) -> None:
        """Kill a node's slurmd; what runs there runs on for a while."""
        self._kill(node, signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start a node's slurmd."""
        self._daemon("slurmd", "-f", str(self.conf), "-N", node)

    def node_down(self, node: str) -> None:
        """Declare a node down; its jobs are requeued or end with NODE_FAIL."""
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def resume(self, *nodes: str) -> None:
        """Take nodes back into use that are down or drained."""
        for node in nodes or NODES:
            until(lambda node=node: self._resumed(node))

    def partition(self, name: str, state: str) -> None:
        """Set a partition's state: ``up``, ``down``, ``drain`` or ``inactive``."""
        self.command("scontrol", "update", f"partitionname={name}", f"state={state}")

    def _resumed(self, node: str) -> bool:
        """Whether a node is in use; asked for if not, which is refused while it does not answer."""
        if not self.nodes()[node].startswith(("down", "dr", "fail")):
            return True
        self.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        return False

    def _write(self) -> None:
        for name in ("state", "spool", "log", "pid", "munge"):
            (self.root / name).mkdir()
        key = self.root / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        host = socket.gethostname().split(".")[0]
        port, *ports = free_ports(1 + len(NODES))
        common = f"NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=6000 State=UNKNOWN"
        lines = [
            f"NodeName={node} Port={own} {common}" + (" Gres=gpu:2" if node == "g1" else "")
            for node, own in zip(NODES, ports, strict=True)
        ]
        facts = {"host": host, "user": getpass.getuser(), "root": self.root, "port": port}
        self.conf.write_text(CONFIGURATION.format(**facts, nodes="\n".join(lines)))
        devices = "File=/dev/null,/dev/zero"  # a count alone is refused: it wants character devices
        (self.root / "gres.conf").write_text(f"NodeName=g1 Name=gpu Count=2 {devices}\n")

    def _daemon(self, name: str, *arguments: str) -> None:
        """Start a daemon; it goes into the background itself. slurmd wants its bare name."""
        with (self.root / "log" / f"{name}.start").open("ab") as log:
            done = subprocess.run(
                (name, *arguments),
                executable=program(name),
                env=os.environ | {"SLURM_CONF": str(self.conf)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=30,
                check=False,
            )
        assert done.returncode == 0, (self.root / "log" / f"{name}.start").read_text()

    def _lives(self, name: str) -> bool:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return lives(int((self.root / "pid" / name).read_text()))
        return False

    def _kill(self, name: str, number: signal.Signals, *, wait: bool = True) -> None:
        file = self.root / "pid" / name
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int(file.read_text())
            os.kill(pid, number)
            if wait:
                gone(pid)
        if wait:
            file.unlink(missing_ok=True)

    def _job_processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if self._keeps_a_step(process) or self._belongs_to_a_job(process):
                    yield process

    def processes_of(self, job: str) -> list[psutil.Process]:
        """Processes of a job, and those that keep its steps, as they would end with their node."""
        found = []
        for process in self._job_processes():
            with contextlib.suppress(psutil.Error):
                named = process.name() == "slurmstepd" and f"[{job}." in " ".join(process.cmdline())
                if named or process.environ().get("SLURM_JOB_ID") == job:
                    found.append(process)
        return found

    def _keeps_a_step(self, process: psutil.Process) -> bool:
        ours = process.name() == "slurmstepd"
        return ours and process.cwd() == str(self.root / "log")

    def _belongs_to_a_job(self, process: psutil.Process) -> bool:
        environment = process.environ()
        return environment.get("SLURM_CONF") == str(self.conf) and "SLURM_JOB_ID" in environment


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A private Slurm; ``SLURM_CONF`` names it to all commands that tests start."""
    for name in ("slurmctld", "slurmd", "munged", "sbatch"):
        need(program(name), f"{name} (Debian: slurmctld slurmd slurm-client munge)")
    # a short path: the address of munge's socket may have 107 characters at most
    root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    root.chmod(0o755)
    running = Slurm(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(running.conf))
        try:
            running.start()
            yield running
        finally:
            running.stop()
            shutil.rmtree(root, ignore_errors=True)
