"""The gpu4pyscf engine as far as it needs neither a GPU nor PySCF's time: loading, words, fakes."""

import builtins
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qfarm import config
from qfarm.engines import engine, inprocess
from qfarm.engines.base import Exit, PythonCall
from qfarm.engines.gpu4pyscf import ENGINE
from qfarm_schemas.attempt import Failure
from qfarm_schemas.config import TaskKind
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.level import LevelOfTheory
from support import build
from support.needs import has_gpu, need

need(find_spec("pyscf"), "pyscf")

from qfarm.engines.gpu4pyscf import compute, cuda, twin  # noqa: E402
from qfarm.engines.pyscf import scf  # noqa: E402
from qfarm.engines.pyscf.settings import Settings  # noqa: E402

POINT = TaskKind.SINGLE_POINT


class NoDeviceError(RuntimeError):
    """As CuPy raises it."""


def fakes(count: int | Exception) -> dict[str, ModuleType]:
    """CuPy and gpu4pyscf as far as `cuda` looks at them."""

    def device_count() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    cupy, gpu = ModuleType("cupy"), ModuleType("gpu4pyscf")
    dft, numint = ModuleType("gpu4pyscf.dft"), ModuleType("gpu4pyscf.dft.numint")
    libxc = ModuleType("gpu4pyscf.dft.libxc")
    runtime = SimpleNamespace(
        getDeviceCount=device_count, getDeviceProperties=lambda _: {"name": b"NVIDIA H200"}
    )
    cupy.__dict__.update(cuda=SimpleNamespace(runtime=runtime), asnumpy=np.asarray)
    numint.__dict__.update(AO_THRESHOLD=1e-10)
    libxc.__dict__.update(__version__="7.0.0 (CUDA)")
    dft.__dict__.update(numint=numint, libxc=libxc)
    gpu.__dict__.update(dft=dft, __version__="1.9.0")
    return {module.__name__: module for module in (cupy, gpu, dft, numint, libxc)}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put fakes in the place of what is installed."""

    def put(count: int | Exception) -> dict[str, ModuleType]:
        made = fakes(count)
        for name, module in made.items():
            monkeypatch.setitem(sys.modules, name, module)
        return made

    return put


def test_it_stands_in_for_pyscf_in_every_word() -> None:
    other = engine("pyscf")
    assert ENGINE.ladder == other.ladder
    assert ENGINE.restart == other.restart
    assert ENGINE.basis_set(build.PBE0) == other.basis_set(build.PBE0) == "def2-TZVP"
    assert ENGINE.refuse(build.WATER, build.PBE0, POINT) is None
    hf = build.PBE0.model_copy(update={"method": "HF"})
    assert ENGINE.refuse(build.WATER, hf, POINT) == other.refuse(build.WATER, hf, POINT)
    assert ENGINE.refuse(build.WATER, build.PBE0, TaskKind.OPTIMISATION)


def test_a_level_of_its_own_is_refused_with_the_remedy() -> None:
    own = LevelOfTheory.model_validate(build.PBE0.model_dump() | {"engine": "gpu4pyscf"})
    reason = ENGINE.refuse(build.WATER, own, POINT)
    assert reason is not None
    assert "engine = 'pyscf'" in reason
    assert 'by = "gpu4pyscf"' in reason


def test_the_process_that_forks_loads_no_cuda() -> None:
    """A child of a process that has initialised CUDA cannot use it."""
    job = SimpleNamespace()
    assert ENGINE.run(job) == PythonCall("qfarm.engines.gpu4pyscf.compute")  # type: ignore[arg-type]
    assert "gpu4pyscf" not in sys.modules
    assert "cupy" not in sys.modules


def test_every_aid_of_a_rung_reaches_the_twin() -> None:
    class Solver:
        """Takes what it is told."""

    solver = Solver()
    scf._apply(solver, Settings(damp=0.5))
    assert set(vars(solver)) == set(twin.AIDS)


def test_the_gpu_is_named_and_the_threshold_pinned(loaded: Any) -> None:
    modules = loaded(1)
    device = cuda.device()
    assert device.version().startswith("gpu4pyscf 1.9.0 on NVIDIA H200, PySCF 2.")
    assert device.version().endswith(", libxc 7.0.0 (CUDA)")
    assert modules["gpu4pyscf.dft.numint"].AO_THRESHOLD == cuda.SMALLEST == 1e-12
    loaded(2)
    assert "on 2 x NVIDIA H200," in cuda.device().version()


@pytest.mark.parametrize("count", [0, NoDeviceError("cudaErrorNoDevice: no device is detected")])
def test_without_a_gpu_it_says_so_and_does_not_compute(
    loaded: Any, tmp_path: Path, count: int | Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(count)
    monkeypatch.setattr(compute, "main_on", lambda *_: pytest.fail("it computes"))
    compute.main(tmp_path)
    failure = _left(tmp_path)
    assert failure.cause.startswith("no GPU can be used: ")
    assert "gpus = 1" in failure.remedy


def test_without_the_library_it_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = builtins.__import__

    def away(name: str, *rest: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'")
        return plain(name, *rest)

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(builtins, "__import__", away)
    compute.main(tmp_path)
    monkeypatch.undo()
    failure = _left(tmp_path)
    assert failure.cause == "gpu4pyscf cannot be loaded: No module named 'cupy'"
    assert "pip install 'qfarm[gpu]'" in failure.remedy
    assert "cuda13x" in failure.remedy
    assert "Traceback" in str(failure.evidence["traceback"])


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_here_there_is_none(tmp_path: Path) -> None:
    compute.main(tmp_path)
    _left(tmp_path)


def _left(folder: Path) -> Failure:
    (file,) = folder.iterdir()
    found = inprocess.parse({file.name: file.read_text()}, Exit(0))
    assert isinstance(found, Failure)
    assert found.kind is FailureKind.ENGINE_MISSING
    return found


def test_memory_may_be_that_of_the_gpu() -> None:
    failure = Failure(kind=FailureKind.OUT_OF_MEMORY, cause="Out of memory", remedy="Raise it.")
    assert compute._worded(failure).remedy == (  # type: ignore[union-attr]
        "Raise it. If the GPU's own memory was short, let fewer slots share it: slots = gpus of "
        "the partition."
    )
    other = failure.model_copy(update={"kind": FailureKind.SCF_NOT_CONVERGED})
    assert compute._worded(other) is other


def test_the_twin_is_made_by_the_names_that_gpu4pyscf_has(loaded: Any) -> None:
    made = loaded(1)
    asked: list[Any] = []

    class Twin(SimpleNamespace):
        """Records how it is made."""

        def density_fit(self, auxbasis: str) -> "Twin":
            asked.append(auxbasis)
            return self

    def kind(name: str) -> Any:
        return lambda mol, xc: Twin(name=name, mol=mol, xc=xc)

    made["gpu4pyscf.dft"].__dict__.update(RKS=kind("RKS"), UKS=kind("UKS"))
    for spin, name in ((0, "RKS"), (1, "UKS")):
        solver = SimpleNamespace(
            mol=SimpleNamespace(spin=spin),
            xc="PBE0",
            with_df=SimpleNamespace(auxbasis="def2-tzvp-jkfit"),
        )
        found = cuda.device().twin(solver)
        assert (found.name, found.xc, found.small_rho_cutoff) == (name, "PBE0", 0)
    assert asked == ["def2-tzvp-jkfit"] * 2


def test_the_extra_names_the_library() -> None:
    import tomllib

    root = Path(config.__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert extras["optional-dependencies"]["gpu"][0].startswith("gpu4pyscf-cuda12x")
