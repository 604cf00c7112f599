"""MongoDB through SSH, as `deploy/hpc.md` tells users of a centre: a real sshd, ssh and mongod."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import pytest

from qfarm.store import open_store, users
from qfarm.store.protocol import Selection, StageState, Store
from qfarm_schemas.attempt import Success
from support import engines
from support.mongo import has_mongod
from support.needs import need
from support.slurm import Slurm
from support.ssh import LoginNode, has_ssh, login_node
from support.tls import Secured, free_port, secured
from support.wait import until
from support.work import plan_of, water

HERE = "127.0.0.1"
TESTS = Path(__file__).parents[1]
SCRIPT = TESTS.parent / "deploy" / "tunnel.sh"
QFARM = str(Path(sys.executable).with_name("qfarm"))

XTB = """
name = "xtb"
[[stages]]
name = "single_point"
task = "single-point"
[[stages.levels]]
[stages.levels.level]
engine = "tblite"
method = "GFN2-xTB"
dispersion = "intrinsic"
basis = "none"
"""

WATERS = """3
class=dimer
O 0 0 0.117
H 0 0.757 -0.467
H 0 -0.757 -0.467
3
class=dimer
O 0 0 0.127
H 0 0.757 -0.467
H 0 -0.757 -0.467
"""

ANOTHERS = """
import os, socket, sys
os.setuid(65534)  # nobody
with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    sys.stdin.read()
"""

OUTAGE = 3.0  # s; a commit takes milliseconds


@dataclass
class Centre:
    """A MongoDB that only a login node reaches, and a farm on a compute node.

    Attributes
    ----------
    farm : Path
        Folder of the farm on the compute node.
    port : int
        Of the tunnel there.
    environment : dict
        Further variables of jobs.
    """

    mongod: Secured
    login: LoginNode
    farm: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)

    def address(self, role: str) -> Path:
        """File with a user's address as it is on the compute node."""
        password = users.new_password()
        users.give(self.mongod.root, "qfarm", role, (role,), password)
        own = users.address_of(self.mongod.root, "qfarm", role, password)
        here = own.replace(f"{HERE}:{self.mongod.port}", f"{HERE}:{self.port}")
        path = self.farm / f"{role}.uri"
        path.touch(0o600)
        path.write_text(here.replace("replicaSet=qfarm", "directConnection=true"))
        return path

    @property
    def prologue(self) -> str:
        """A line of the job script."""
        words = ["login", str(self.port), f"{HERE}:{self.mongod.port}", "-F", self.login.config]
        return f"bash {shlex.quote(str(SCRIPT))} {shlex.join(map(str, words))} || exit 1"

    @contextmanager
    def job(self, *commands: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a job script; nothing of it is left afterwards."""
        kept = {name: value for name, value in os.environ.items() if "QFARM_" not in name}
        with (self.farm / "job.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", "\n".join(["set -e", self.prologue, *commands])],
                cwd=self.farm,
                env=kept | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", **self.environment},
                stdout=log,
                stderr=log,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()
                until(lambda: not self.tunnels())

    @property
    def said(self) -> str:
        return (self.farm / "job.log").read_text()

    def tunnels(self) -> list[psutil.Process]:
        """What keeps a tunnel of this centre, and the ssh that is one."""
        return [one for one in psutil.process_iter() if str(self.login.config) in words_of(one)]

    def ssh(self) -> psutil.Process | None:
        return next((one for one in self.tunnels() if words_of(one)[:1] == ["ssh"]), None)


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    need(has_mongod(), "mongod")
    need(has_ssh(), "sshd and ssh")
    with secured(tmp_path_factory.mktemp("tls")) as found:
        users.apply(found.root, "qfarm")
        yield found


@pytest.fixture
def centre(mongod: Secured, tmp_path: Path) -> Iterator[Centre]:
    """The key of the compute nodes may do nothing on the login node but reach MongoDB."""
    allowed = f'restrict,port-forwarding,permitopen="{HERE}:{mongod.port}",command="/bin/false"'
    (tmp_path / "farm").mkdir()
    with login_node(tmp_path / "login", allowed) as login:
        yield Centre(mongod, login, tmp_path / "farm", free_port())


@pytest.fixture
def store(mongod: Secured) -> Iterator[Store]:
    """The same database without a tunnel."""
    with open_store(mongod.root, "qfarm") as opened:
        yield opened


def count(store: Store, state: StageState) -> int:
    return sum(one.count for one in store.counts() if one.state is state)


def test_submit_and_run_through_the_tunnel(centre: Centre, store: Store) -> None:
    """Each under its own role, by TLS, with transactions, on a replica set of another name."""
    (centre.farm / "xtb.toml").write_text(XTB)
    (centre.farm / "waters.xyz").write_text(WATERS)
    submitter, worker = centre.address("submitter"), centre.address("worker")
    (centre.farm / "qfarm.toml").write_text(f'[mongo]\nuri_file = "{worker.name}"\n')
    submit = f"QFARM_MONGO__URI_FILE={submitter} {QFARM} submit waters.xyz --protocol xtb.toml"
    before = count(store, StageState.DONE)
    with centre.job(submit, f"{QFARM} run --plain") as job:
        assert job.wait(120) == 0, centre.said
    assert "2 stages done, 0 failed, 0 waiting." in centre.said
    assert count(store, StageState.DONE) == before + 2


def test_an_outage_is_waited_out(centre: Centre, store: Store) -> None:
    """The login node dies under two attempts that then end; once it is back they are committed."""
    gates = [centre.farm / name for name in ("one", "two")]
    stages = [engines.stage("gated", options={"gate": str(g)}, time_limit=60) for g in gates]
    plans = [plan_of(water(900 + i), stage) for i, stage in enumerate(stages)]
    store.add(plans)
    worker = centre.address("worker")
    (centre.farm / "qfarm.toml").write_text(f'[mongo]\nuri_file = "{worker.name}"\n')
    with centre.job(f"{sys.executable} -m support.run_farm 2") as job:
        until(lambda: all(gate.with_suffix(".pid").exists() for gate in gates), 60)
        centre.login.stop()
        for gate in gates:
            gate.touch()
        time.sleep(OUTAGE)
        assert count(store, StageState.RUNNING) == 2  # nobody could say that they are done
        centre.login.start()
        assert job.wait(120) == 0, centre.said
    for plan in plans:
        view = store.view(plan.fragment.id)
        (made,) = (attempt for row in view.rows for attempt in view.attempts[row.key])
        assert isinstance(made.outcome, Success)
        assert [row.state for row in view.rows] == [StageState.DONE]


def test_batch_jobs_bring_their_own_tunnel(centre: Centre, store: Store, slurm: Slurm) -> None:
    """The launcher reaches MongoDB by itself; its jobs on Slurm open the way in their prologue."""
    (centre.farm / "xtb.toml").write_text(XTB.replace("single_point", "tunnelled"))
    (centre.farm / "waters.xyz").write_text(WATERS)
    worker = centre.address("worker")
    lines = [centre.prologue, f"export QFARM_MONGO__URI_FILE={shlex.quote(str(worker))}"]
    (centre.farm / "qfarm.toml").write_text(
        f"""
        mongo.uri_file = "{centre.mongod.folder}/root.uri"
        [[partitions]]
        name = "far"
        scheduler = "slurm"
        queue = "cpu"
        slots = 1
        memory_mb = 1000
        walltime = "00:05:00"
        idle_seconds = 1
        takes_stages = ["tunnelled"]
        prologue = {json.dumps(lines)}
        """
    )
    (centre.mongod.folder / "root.uri").chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if "QFARM_" not in name}
    call = partial(subprocess.run, cwd=centre.farm, env=kept, check=True, timeout=150)
    call([QFARM, "submit", "waters.xyz", "--protocol", "xtb.toml"])
    call([QFARM, "launch", "--until-done"])
    rows = [row for row in store.rows(Selection()) if row.stage == "tunnelled"]
    assert [row.state for row in rows] == [StageState.DONE] * 2
    for row in rows:
        (made,) = store.view(row.fragment_id).attempts[row.key]
        assert made.worker.partition == "far"
    assert "Accepted publickey" in (centre.login.folder / "sshd.log").read_text()
    until(lambda: not centre.tunnels())


def test_a_tunnel_that_breaks_is_opened_again(centre: Centre, store: Store) -> None:
    with centre.job("sleep 60") as job:
        until(lambda: listens(centre.port))
        first = centre.ssh()
        assert first is not None
        first.kill()
        until(lambda: (now := centre.ssh()) is not None and now.pid != first.pid)
        with open_store(centre.address("worker").read_text(), "qfarm") as through:
            assert through.counts() == store.counts()
        assert job.poll() is None


def test_a_tunnel_ends_with_its_job(centre: Centre) -> None:
    with centre.job("true") as job:
        assert job.wait(30) == 0, centre.said
        until(lambda: not centre.tunnels())


def test_the_key_is_good_for_nothing_else(centre: Centre) -> None:
    words = ["ssh", "-F", str(centre.login.config), "-o", "BatchMode=yes"]
    said = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=30)
    elsewhere = said([*words, "-W", f"{HERE}:{centre.login.port}", "login"])
    assert "administratively prohibited" in elsewhere.stderr
    command = said([*words, "login", "echo", "hello"])
    assert (command.returncode, command.stdout) == (1, "")


def test_without_a_login_node_the_job_ends(centre: Centre) -> None:
    """`|| exit 1`: no worker starts that would have no MongoDB."""
    centre.login.stop()
    centre.environment["TUNNEL_SECONDS"] = "4"
    with centre.job("touch began") as job:
        assert job.wait(30) == 1
    assert "did not open within 4 s" in centre.said
    assert not (centre.farm / "began").exists()


def test_a_job_that_is_killed_before_its_tunnel_is_open_leaves_none(centre: Centre) -> None:
    """Nothing of it goes on for the 60 s that a tunnel has to open."""
    centre.login.stop()
    with centre.job("touch began"):
        until(centre.tunnels)
    assert not (centre.farm / "began").exists()


def test_the_port_of_another_user_is_not_taken_for_the_tunnel(centre: Centre) -> None:
    """On a shared node it leads to another MongoDB."""
    need(os.getuid() == 0, "root, who alone can be two users")
    words = [sys.executable, "-c", ANOTHERS, str(centre.port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as other:
        until(lambda: listens(centre.port))
        with centre.job("touch began") as job:
            assert job.wait(30) == 1
        other.communicate(timeout=30)
    assert centre.said == (
        f"tunnel.sh: port {centre.port} of this node belongs to another user: "
        "choose another one in the prologue\n"
    )
    assert not (centre.farm / "began").exists()


def test_jobs_of_one_user_share_the_port(centre: Centre) -> None:
    with centre.job("sleep 60"):
        until(lambda: listens(centre.port))
        second = subprocess.run(["bash", "-c", centre.prologue], check=False, timeout=30)
        assert second.returncode == 0


def test_from_outside_and_on_to_a_compute_node(
    mongod: Secured, store: Store, tmp_path: Path
) -> None:
    """A workstation brings its MongoDB to the login node (-R); compute nodes go on from there."""
    meeting = free_port()
    words = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes"]
    (tmp_path / "farm").mkdir()
    allowed = (
        f'restrict,port-forwarding,permitlisten="{HERE}:{meeting}",permitopen="{HERE}:{meeting}"'
    )
    with login_node(tmp_path / "login", allowed) as login:
        reverse = ["-F", str(login.config), "-R", f"{HERE}:{meeting}:{HERE}:{mongod.port}", "login"]
        workstation = subprocess.Popen([*words, *reverse])
        until(lambda: listens(meeting))
        centre = Centre(mongod, login, tmp_path / "farm", free_port())
        beyond = centre.prologue.replace(f"{HERE}:{mongod.port}", f"{HERE}:{meeting}")
        try:
            with subprocess.Popen(["bash", "-c", f"{beyond}\nread"], stdin=subprocess.PIPE) as job:
                until(lambda: listens(centre.port))
                with open_store(centre.address("worker").read_text(), "qfarm") as through:
                    assert through.counts() == store.counts()
                job.communicate(b"\n", timeout=30)
        finally:
            workstation.kill()
            workstation.wait()
        until(lambda: not centre.tunnels())


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HERE, port)) == 0
