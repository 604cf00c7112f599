"""Reading: FireWorks' command line, its web page and `qfarm fsck` on a farm, beside the checker.

The web page needs Flask, which qfarm does not; ``CHAOS_FLASK`` may name a folder that has it
(``pip install --target FOLDER flask flask-paginate``).
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from fireworks import LaunchPad

from chaos.checker import Found

SHOWN: Final = ("COMPLETED", "FIZZLED", "WAITING", "READY", "RUNNING", "RESERVED", "DEFUSED")
_ROW: Final = re.compile(
    r'<span class="label (\w+)">\s*\w+\s*</span>.*?</td>\s*<td>(.*?)</td>\s*<td>(.*?)</td>', re.S
)


def report(uri: str, database: str, folder: Path, found: Found) -> str:
    """Lines that compare what each reader says.

    Parameters
    ----------
    uri, database : str
        The farm.
    folder : Path
        Working folder for the programs.
    found : Found
        What the checker counted.
    """
    launchpad = folder / "launchpad.json"
    launchpad.write_text(json.dumps({"host": uri, "name": database, "uri_mode": True}))
    readers = {
        "checker": (found.states, found.workflow_states),
        "lpad": _lpad_counts(launchpad, folder),
        "web page": _web_counts(uri, database),
    }
    lines = [_line(name, counts) for name, counts in readers.items()]
    lines.append(f"lpad report: {_said(_lpad(launchpad, folder, 'report', '-c', 'fws'))}")
    lines.append(f"lpad admin orphaned: {_said(_lpad(launchpad, folder, 'admin', 'orphaned'))}")
    lost = _lpad(launchpad, folder, "detect_lostruns", "--time", "1", "--display_format", "count")
    lines.append(f"lpad detect_lostruns: {_said(lost)}")
    lines.append(f"qfarm fsck --deep: {fsck(uri, database, folder)}")
    return "\n".join(lines)


def agree(uri: str, database: str, folder: Path, found: Found) -> bool:
    """Whether lpad counts as the checker does."""
    launchpad = folder / "launchpad.json"
    launchpad.write_text(json.dumps({"host": uri, "name": database, "uri_mode": True}))
    return _lpad_counts(launchpad, folder) == (found.states, found.workflow_states)


def fsck(uri: str, database: str, folder: Path, *options: str) -> str:
    """The last lines of `qfarm fsck --deep` and its exit code."""
    ours = {"QFARM_MONGO__URI": uri, "QFARM_MONGO__DATABASE": database}
    words = [sys.executable, "-c", "from qfarm.cli import main; main()", "fsck", "--deep", *options]
    done = subprocess.run(
        words, cwd=folder, env=os.environ | ours, capture_output=True, text=True, check=False
    )
    return f"{_said(done.stdout or done.stderr)} (exit code {done.returncode})"


def _lpad_counts(launchpad: Path, folder: Path) -> tuple[Counter[str], Counter[str]]:
    fireworks: Counter[str] = Counter()
    workflows: Counter[str] = Counter()
    for state in SHOWN:
        for counter, command in ((fireworks, "get_fws"), (workflows, "get_wflows")):
            said = _lpad(launchpad, folder, command, "-s", state, "-d", "count")
            counter[state] = int(said.strip() or 0)
    return +fireworks, +workflows


def _lpad(launchpad: Path, folder: Path, *words: str) -> str:
    program = Path(sys.executable).with_name("lpad")
    done = subprocess.run(
        [program, "-l", str(launchpad), *words],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else f"exit code {done.returncode}: {done.stderr}"


def _web_counts(uri: str, database: str) -> tuple[Counter[str], Counter[str]] | str:
    """What the start page of FireWorks' web server shows, asked without a socket."""
    extra = os.environ.get("CHAOS_FLASK")
    if extra and extra not in sys.path:
        sys.path.append(extra)
    try:
        from fireworks.flask_site.app import app
    except ImportError as error:
        return f"cannot be read: {error}"
    app.lp = LaunchPad(host=uri, name=database, uri_mode=True, strm_lvl="ERROR")
    answer: Any = app.test_client().get("/")
    rows = _ROW.findall(answer.get_data(as_text=True))
    fireworks = Counter({state: _number(fws) for state, fws, _ in rows})
    workflows = Counter({state: _number(wfs) for state, _, wfs in rows})
    return +fireworks, +workflows


def _number(cell: str) -> int:
    digits = re.sub(r"<[^>]*>|[\s,]", "", cell)
    return int(digits or 0)


def _line(name: str, counts: tuple[Counter[str], Counter[str]] | str) -> str:
    if isinstance(counts, str):
        return f"{name:9} {counts}"
    fireworks, workflows = counts
    return f"{name:9} fireworks {_shown(fireworks)} | workflows {_shown(workflows)}"


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in SHOWN if counts[state])


def _said(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip(" -─┌┐└┘│╷╵╶╴")]
    return " | ".join(lines[-3:])[:300] or "nothing"
