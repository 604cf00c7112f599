"""The house rules that a machine can check."""

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for top in ("qfarm", "workers", "launchers", "schemas")
    for path in (ROOT / top).rglob("*.py")
)


def functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def length(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - body[0].lineno + 1 if body else 0


def test_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("qfarm", "pymongo fireworks dask distributed h5py ase pyscf tblite numpy"),
        ("qfarm.cli", "pymongo fireworks dask distributed h5py ase pyscf tblite"),
        ("qfarm.engines", "pymongo dask h5py pyscf tblite"),
        ("qfarm_schemas.record", "pymongo dask h5py ase scipy"),
    ],
)
def test_import_stays_light(module: str, heavy: str) -> None:
    code = f"import sys, {module}; print(*[m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_files_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in SOURCES}
    assert {str(path): n for path, n in lengths.items() if n > 400} == {}


def test_functions_are_short() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{function.name}": length(function)
        for path in SOURCES
        for function in functions(path)
    }
    assert statistics.median(lengths.values()) < 10
    assert {name: n for name, n in lengths.items() if n > 40} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def starts_processes(path: Path) -> bool:
    """Whether a file imports `subprocess`, `multiprocessing` or calls a fork, exec or shell."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            forks = node.value.id == "os" and re.match(
                "fork|exec|spawn|posix_spawn|system|popen", node.attr
            )
            names = {"subprocess"} if forks else set()
        else:
            continue
        if names & {"subprocess", "multiprocessing", "pty"}:
            return True
    return False


def test_only_these_places_start_processes() -> None:
    assert {str(path.relative_to(ROOT)) for path in SOURCES if starts_processes(path)} == {
        "launchers/qfarm_launchers/commands.py",  # schedulers' commands, jobs of this machine
        "launchers/qfarm_launchers/local.py",  # Dask's worker processes
        "qfarm/intake/pool.py",  # the examination of large batches
        "qfarm/store/server.py",  # mongod
        "workers/qfarm_workers/process.py",  # supervisors
        "workers/qfarm_workers/slots.py",  # slots of a job
        "workers/qfarm_workers/supervisor.py",  # engines
    }


def test_constraints_name_no_addresses() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert "://" not in text
    assert " @ " not in text
