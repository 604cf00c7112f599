"""Engine processes inside a job of a real Slurm: ranks that srun started end with it."""

import json
import sys
from pathlib import Path

from support.slurm import Slurm
from support.wait import until

LIMITED = """\
import json, sys
from pathlib import Path
from threading import Event

from qfarm.engines.base import Command
from qfarm_workers.process import EngineProcess, Limits

here = Path.cwd()
told = []
with EngineProcess(here, 1) as process:
    for words, seconds in ((("sleep", "600"), 2.0), (("hostname",), 30.0)):
        folder = here / words[0]
        folder.mkdir()
        ended = process.run(
            Command(("srun", "-n", "2", *words)), folder, Limits(seconds, 2000), Event()
        )
        told.append((ended.stopped, ended.wall_seconds, (folder / "stderr.txt").read_text()))
(here / "told.part").write_text(json.dumps(told))
(here / "told.part").rename(here / "told")
"""


def test_the_next_engine_gets_the_cores_of_one_that_was_ended(slurm: Slurm, tmp_path: Path) -> None:
    """Ranks are children of slurmd: a killed srun leaves them, and the next waits for its cores."""
    (tmp_path / "limited.py").write_text(LIMITED)
    slurm.command(
        "sbatch",
        "--ntasks=2",
        "--mem=1000",
        f"--chdir={tmp_path}",
        f"--wrap=exec {sys.executable} limited.py",
    )
    until((tmp_path / "told").exists, 50)
    first, second = json.loads((tmp_path / "told").read_text())
    assert first[0] == "time"
    assert first[1] < 7, "its ranks ended when srun asked them to"
    assert "forcing job termination" in first[2]
    assert second[0] is None, second
    assert second[1] < 2
    slurm.wait_idle()
