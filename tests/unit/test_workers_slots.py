"""The processes that slots are forked from."""

import os
import subprocess
import sys
from pathlib import Path

from qfarm_workers.slots import SHARED

CODE = """\
import multiprocessing
from qfarm_workers.slots import Slots

Slots.prepare()
look = "import sys; sys.exit(sum(name not in sys.modules for name in {names!r}))"
process = multiprocessing.get_context("forkserver").Process(target=exec, args=(look,))
process.start()
process.join()
print(process.exitcode)
"""


def test_a_slot_finds_the_driver_of_mongodb_and_the_loop_imported() -> None:
    names = [*SHARED, "pymongo", "qfarm_workers.slot", "qfarm_workers.loop"]
    code = CODE.format(names=names)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "0\n", said.stderr


def test_a_temporary_folder_may_have_a_long_path(tmp_path: Path) -> None:
    """The address of a socket has 107 characters at most."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    code = CODE.format(names=["os"]) + "import tempfile; print(tempfile.gettempdir())"
    words = [sys.executable, "-c", code]
    said = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert said.stdout == f"0\n{folder}\n", said.stderr
