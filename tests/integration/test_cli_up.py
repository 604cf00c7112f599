"""``qfarm up``, ``down`` and ``protocol``, and how the command line treats errors."""

import json
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pymongo import MongoClient
from rich.console import Console
from typer.testing import CliRunner

from qfarm import cli
from qfarm.cli import protocol
from qfarm.config import load_protocol
from qfarm.plan import Plan, plan
from qfarm.store import open_store, server
from qfarm.store.protocol import Claim
from support.build import WATER, WORKER
from support.mongo import has_mongod
from support.needs import need

BIN = Path(sys.executable).parent


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty current folder; a server started in it is killed afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    server.down(tmp_path / ".qfarm" / "mongo", timeout=0, force=True)


@pytest.fixture
def run() -> Callable[..., Any]:
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli.app, list(arguments), catch_exceptions=False)


def qfarm(*arguments: str, program: str = "qfarm") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / program), *arguments], capture_output=True, text=True, timeout=90, check=False
    )


def command_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Put a subcommand that raises in the place of ``qfarm status``."""

    def command() -> None:
        raise error

    module = ModuleType("raising")
    vars(module)["command"] = command
    monkeypatch.setitem(sys.modules, "raising", module)
    table = {**cli.COMMANDS, "status": cli.Command("raising:command", "")}
    monkeypatch.setattr(cli, "COMMANDS", table)
    monkeypatch.setattr(sys, "argv", ["qfarm", "status"])


def test_up_lpad_down(farm: Path) -> None:
    need(has_mongod(), "mongod")
    up = qfarm("up")
    assert up.returncode == 0, up.stderr
    assert "MongoDB started on 127.0.0.1:" in up.stdout
    assert str(farm / ".qfarm" / "mongo" / "mongod.log") in up.stdout
    launchpad = farm / ".qfarm" / "my_launchpad.yaml"
    assert stat.S_IMODE(launchpad.stat().st_mode) == 0o600
    connection = json.loads((farm / ".qfarm" / "mongo" / "connection.json").read_text())
    assert connection["password"] not in up.stdout + up.stderr
    assert _workflows(launchpad) == "0"
    with MongoClient[dict[str, Any]](connection["uri"]) as client:
        client.qfarm.workflows.insert_one({"nodes": [1], "state": "READY"})
    assert _workflows(launchpad) == "1"
    again = qfarm("up")
    assert "already runs" in again.stdout
    down = qfarm("down")
    assert (down.returncode, down.stdout[:15]) == (0, "MongoDB stopped")
    assert "did not run" in qfarm("down").stdout


def test_launchpad_is_quoted_for_the_shell(
    tmp_path: Path, mongo_uri: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my [red]farm"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("QFARM_MONGO__URI", mongo_uri)
    said = run("up").stdout.splitlines()
    assert shlex.split(said[-1]) == ["lpad", "-l", str(folder / ".qfarm" / "my_launchpad.yaml")]


def test_stopping_below_a_second_is_wrong_usage(farm: Path, run: Callable[..., Any]) -> None:
    done = run("down", "--timeout", "0")
    assert done.exit_code == 2
    assert "--timeout" in done.stderr
    assert not (farm / ".qfarm").exists()


def test_subfolder_of_a_farm_makes_no_second_one(
    farm: Path, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (farm / "qfarm.toml").write_text("")
    sub = farm / "sub"
    sub.mkdir()
    monkeypatch.chdir(sub)
    for name in ("up", "status", "list", "run", "down"):
        done = run(name)
        assert done.exit_code == 1, name
        assert f"one in the folder above, {farm}" in done.stderr
    assert not (sub / ".qfarm").exists()
    monkeypatch.setenv("QFARM_MONGO__MONGOD", "absent")
    assert "mongo.mongod names" in run("up", "--here").stderr
    assert (sub / ".qfarm").is_dir()


def test_farm_folder_is_private_whatever_the_umask(farm: Path) -> None:
    (farm / "qfarm.toml").write_text('[mongo]\nmongod = "absent"')
    script = f"umask 000; exec {shlex.quote(str(BIN / 'qfarm'))} up"
    for _ in range(2):
        subprocess.run(["sh", "-c", script], capture_output=True, timeout=90, check=False)
        assert stat.S_IMODE((farm / ".qfarm").stat().st_mode) == 0o700
        (farm / ".qfarm").chmod(0o777)


def test_a_gitignore_that_is_there_stays(farm: Path, run: Callable[..., Any]) -> None:
    (farm / "qfarm.toml").write_text('folder = "mine"\n[mongo]\nmongod = "absent"')
    (farm / "mine").mkdir()
    (farm / "mine" / ".gitignore").write_text("*.log\n")
    run("up")
    assert (farm / "mine" / ".gitignore").read_text() == "*.log\n"


def test_version(run: Callable[..., Any]) -> None:
    done = run("--version")
    assert done.exit_code == 0
    assert done.stdout == f"qfarm {version('qfarm')}\n"


def test_down_warns_of_attempts_under_way(farm: Path, run: Callable[..., Any]) -> None:
    need(has_mongod(), "mongod")
    started = server.up(farm / ".qfarm" / "mongo")
    planned = plan(WATER, load_protocol("demo"))
    assert isinstance(planned, Plan)
    with open_store(started.uri, "qfarm") as store:
        store.add([planned])
        assert isinstance(store.claim(WORKER, 60.0), Claim)
    down = run("down")
    assert "attempts under way: 1;" in down.stderr
    assert f"pid {started.pid}" in down.stdout


def _workflows(launchpad: Path) -> str:
    done = qfarm("-l", str(launchpad), "get_wflows", "-d", "count", program="lpad")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_farm_folder_is_hidden_from_git(farm: Path, run: Callable[..., Any]) -> None:
    (farm / "qfarm.toml").write_text('[mongo]\nmongod = "absent"')
    assert run("up").exit_code == 1
    assert (farm / ".qfarm" / ".gitignore").read_text() == "*\n"


@pytest.mark.usefixtures("farm")
def test_configured_mongo_is_checked_only(
    mongo_uri: str,
    database: str,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QFARM_MONGO__URI", mongo_uri)
    monkeypatch.setenv("QFARM_MONGO__DATABASE", database)
    done = run("up")
    assert done.exit_code == 0
    assert "nothing was started" in done.stdout
    assert not Path(".qfarm/mongo").exists()
    assert _workflows(Path(".qfarm/my_launchpad.yaml")) == "0"
    assert "stops none" in run("down").stdout


def test_missing_mongod_is_one_line_and_a_remedy(farm: Path, run: Callable[..., Any]) -> None:
    (farm / "qfarm.toml").write_text('[mongo]\nmongod = "absent"')
    done = run("up")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: mongo.mongod names {farm / 'absent'}")
    assert "Correct mongo.mongod" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_configuration_ends_every_command(farm: Path, run: Callable[..., Any]) -> None:
    (farm / "qfarm.toml").write_text("[mongo]\nport = 1")
    for name in ("up", "down"):
        done = run(name)
        assert done.exit_code == 1
        assert "mongo.port" in done.stderr


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; sys.argv = ['qfarm', '--help']; from qfarm.cli import main\n"
        "try: main()\n"
        "except SystemExit: print([m for m in sys.modules if m.startswith(('qfarm.cli.', "
        "'pymongo', 'dask', 'h5py', 'pydantic'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    for name, command in cli.COMMANDS.items():
        assert name in done.stdout
        assert command.help in done.stdout
    assert done.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, run: Callable[..., Any]) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.stdout


def test_unknown_command_is_wrong_usage(run: Callable[..., Any]) -> None:
    done = run("statsu")
    assert done.exit_code == 2
    assert "status" in done.stderr


def test_unexpected_error_leaves_its_traceback_in_a_file(
    farm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(monkeypatch, RuntimeError("the roof is on fire"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "the roof is on fire" in shown.err
    assert "Traceback" not in shown.err
    log = farm / ".qfarm" / "errors.log"
    assert str(log) in shown.err
    assert "Traceback" in log.read_text()


def test_unexpected_error_without_a_farm_shows_its_traceback(
    farm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (farm / "qfarm.toml").write_text("broken =")
    command_that_raises(monkeypatch, RuntimeError("the roof is on fire"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.usefixtures("farm")
def test_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(monkeypatch, KeyboardInterrupt())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_protocol_list(run: Callable[..., Any]) -> None:
    shown = run("protocol", "list").stdout
    for name in ("demo", "open", "open-single-point"):
        assert name in shown


def test_protocol_show(run: Callable[..., Any]) -> None:
    lines = run("protocol", "show", "open").stdout.splitlines()
    rows = [line.split() for line in lines]
    assert ["any", "any", "any", "tblite", "GFN2-xTB", "-"] in rows
    (large,) = [row for row in rows if row[:3] == ["any", ">", "350"]]
    (small,) = [row for row in rows if row[:3] == ["any", "<=", "350"]]
    assert (small[-1], large[-1]) == ("tight", "intermediate")
    assert lines[-1].startswith("SCF thresholds: energy 1e-05 eV, eigenvalue sum 0.001 eV")


def test_protocol_show_on_a_narrow_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = StringIO()
    monkeypatch.setattr(protocol, "stdout", lambda: Console(width=80, file=screen))
    protocol.show("qcell")
    shown = screen.getvalue()
    assert "\u2026" not in shown
    words = {"carbohydrate,", "nucleic-acid,", "PBE0+MBD-NL", "intermediate"}
    assert words <= set(shown.split())


def test_protocol_show_of_an_unknown_name(run: Callable[..., Any]) -> None:
    done = run("protocol", "show", "opne")
    assert done.exit_code == 1
    assert "open-single-point" in done.stderr
