"""What a test needs from outside: absent means skipped, but failed where everything must be."""

import os
from pathlib import Path

import pytest


def need(condition: object, what: str) -> None:
    """Skip the running test, or module, without `condition`; with ``QFARM_CI=1`` fail it."""
    if condition:
        return
    if os.environ.get("QFARM_CI") == "1":
        pytest.fail(f"QFARM_CI=1 promises everything, but this is missing: {what}")
    pytest.skip(f"needs {what}", allow_module_level=True)


def shared_fixture(name: str) -> Path:
    """Folder `name` of recorded outputs, below ``QFARM_SHARED`` or ``../shared/fixtures``."""
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    folder = Path(os.environ.get("QFARM_SHARED", beside)) / "fixtures" / name
    need(folder.is_dir(), f"the recorded outputs {folder}")
    return folder


def has_gpu() -> bool:
    """Whether this machine shows a GPU of NVIDIA."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def need_gpu() -> None:
    """Skip the running test, or module, where there is no GPU, also with ``QFARM_CI=1``.

    No machine can be asked to have one. Where there is one, `need` asks for its software.
    """
    if not has_gpu():
        pytest.skip("needs a GPU", allow_module_level=True)
