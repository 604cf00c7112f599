"""A real Grid Engine for the tests: private, one host, without systemd, as Debian packages it.

Queue ``all.q`` has four slots on this host, which it calls ``localhost`` whatever its name is, and
the parallel environment ``smp``. Debian's wrappers of the commands look at ``SGE_ROOT``.
"""

import contextlib
import getpass
import os
import re
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
from support.slurm import free_ports, program
from support.wait import gone, until

LIBRARY = Path("/usr/lib/gridengine")
SHARE = Path("/usr/share/gridengine")

BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {root}/default/common;{root}/spool/qmaster
binary_path /usr/sbin
qmaster_spool_dir {root}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""

SMP = """\
pe_name smp
slots 99
user_lists NONE
xuser_lists NONE
start_proc_args NONE
stop_proc_args NONE
allocation_rule $pe_slots
control_slaves TRUE
job_is_first_task TRUE
urgency_slots min
accounting_summary FALSE
qsort_args NONE
"""


def changed(text: str, **changes: str) -> str:
    """A configuration text of Grid Engine with other values."""
    for name, value in changes.items():
        text, number = re.subn(rf"(?m)^{name}\s.*$", f"{name} {value}", text)
        assert number == 1, name
    return text


class GridEngine:
    """The running Grid Engine; `environment` is what its commands need."""

    def __init__(self, root: Path) -> None:
        self.root = root
        qmaster, execd = map(str, free_ports(2))
        self.environment = {
            "SGE_ROOT": str(root),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": qmaster,
        }
        self.environment["SGE_EXECD_PORT"] = execd

    def start(self) -> None:
        """Start everything; returns when the queue is there."""
        self._write()
        self._spool()
        self._run("sge_qmaster")
        until(lambda: self._run("qconf", "-sh", check=False), 15)
        self._run("qconf", "-as", "localhost")
        self._configure("-Msconf", changed(
            self._run("qconf", "-ssconf"),
            schedule_interval="0:0:1", flush_submit_sec="1", flush_finish_sec="1",
            load_formula="slots", job_load_adjustments="NONE",
        ))  # fmt: skip
        self._configure("-Ap", SMP)
        self._run("sge_execd")
        until(lambda: "localhost" in self._run("qconf", "-sel", check=False), 15)
        self._configure("-Aq", changed(
            self._run("qconf", "-sq"), qname="all.q", hostlist="localhost", slots="4",
            pe_list="smp", load_thresholds="NONE",
        ))  # fmt: skip

    def stop(self) -> None:
        """End all jobs, stop the daemons, and kill what is left of the jobs."""
        with contextlib.suppress(AssertionError, TimeoutError, subprocess.SubprocessError):
            self.clear()
        for file in self.root.rglob("*.pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)
        for process in self._job_processes():
            process.kill()
        for file in (*self.root.rglob("*.pid"),):
            with contextlib.suppress(ProcessLookupError, ValueError, FileNotFoundError):
                os.kill(int(file.read_text()), signal.SIGKILL)
                gone(int(file.read_text()))

    def clear(self) -> None:
        """End all jobs."""
        self._run("qdel", "-u", getpass.getuser(), check=False)
        until(lambda: "<JB_job_number>" not in self._run("qstat", "-u", "*", "-xml"), 20)

    def _write(self) -> None:
        for name in ("default/common", "spool/qmaster", "spool/execd"):
            (self.root / name).mkdir(parents=True)
        for name in ("bin", "lib", "utilbin"):
            (self.root / name).symlink_to(Path("/var/lib/gridengine") / name)
        (self.root / "util").symlink_to(SHARE / "util")
        common = self.root / "default" / "common"
        (common / "bootstrap").write_text(BOOTSTRAP.format(root=self.root))
        (common / "act_qmaster").write_text("localhost\n")
        # the host's own name may or may not resolve to what it is called by
        (common / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")

    def _spool(self) -> None:
        text = changed(
            (SHARE / "default-configuration").read_text(),
            execd_spool_dir=f"{self.root}/spool/execd",
            min_uid="0",  # root may submit, too
            min_gid="0",
            load_report_time="00:00:02",
            reporting_params="accounting=true reporting=false flush_time=00:00:01 "
            "joblog=false sharelog=00:00:00",
        )
        where = f"{self.root}/default/common;{self.root}/spool/qmaster"
        self._run(LIBRARY / "spoolinit", "classic", "libspoolc", where, "init")
        resources = SHARE / "util" / "resources"
        self._defaults("configuration", self._file(text))
        self._defaults("complexes", resources / "centry")
        self._defaults("usersets", resources / "usersets")
        self._defaults("managers", getpass.getuser())

    def _defaults(self, what: str, value: object) -> None:
        self._run(LIBRARY / "spooldefaults", what, value)

    def _configure(self, option: str, text: str) -> None:
        self._run("qconf", option, self._file(text))

    def _file(self, text: str) -> Path:
        path = self.root / "configuration"
        path.write_text(text)
        return path

    def _run(self, *words: object, check: bool = True) -> str:
        """Standard output of a command; daemons go into the background themselves."""
        name = str(words[0])
        with (self.root / "said").open("w+") as said:
            done = subprocess.run(
                [name, *map(str, words[1:])],
                executable=program(name),
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=30,
                check=False,
            )
            said.seek(0)
            text = said.read()
        assert done.returncode == 0 or not check, f"{words}: {text}"
        return text if done.returncode == 0 else ""

    def _job_processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SGE_ROOT") == str(self.root)
                if ours and "JOB_ID" in environment:
                    yield process


@pytest.fixture(scope="session")
def grid_engine() -> Iterator[GridEngine]:
    """A private Grid Engine; the environment names it to all commands that tests start."""
    for name in ("sge_qmaster", "sge_execd", "qsub"):
        packages = "gridengine-master gridengine-exec gridengine-client"
        need(program(name) and LIBRARY.is_dir(), f"{name} (Debian: {packages})")
    root = Path(tempfile.mkdtemp(prefix="sge-", dir="/tmp"))
    root.chmod(0o755)
    running = GridEngine(root)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        try:
            running.start()
            yield running
        finally:
            running.stop()
            shutil.rmtree(root, ignore_errors=True)
