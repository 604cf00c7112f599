"""jobflow-remote on the same server, if the user names a Python that has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.store_bench import farm

SCRIPT = Path(__file__).with_name("jobflow_side.py")
FLOWS = 300
SECONDS = 400.0


def measure(bench: farm.Bench) -> None:
    """Rates of jobflow-remote, or why there are none."""
    bench.report.section("jobflow-remote on the same server")
    if bench.jobflow_python is None:
        bench.report.say(
            "SKIPPED: make a virtual environment, `pip install jobflow-remote` into it, and give "
            "its Python as --jobflow-python"
        )
        return
    folder = bench.folder / "jobflow"
    folder.mkdir()
    numbers = (str(FLOWS), str(bench.scale.jobs))
    done = subprocess.run(
        [bench.jobflow_python, "-W", "ignore", SCRIPT, bench.uri, "jobflow", folder, *numbers],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        bench.report.say(f"FAILED: {last[0]}")
        print(done.stderr[-3000:], file=sys.stderr)
        return
    _report(bench, json.loads(done.stdout.splitlines()[-1]))


def _report(bench: farm.Bench, found: dict[str, dict[str, float] | str]) -> None:
    labels = {
        "add_flow": ("add_flow, two jobs each", "flows/s"),
        "checkout": ("checkout_job alone, the first step of a job", "jobs/s"),
        "runner": ("runner with a local batch worker, jobs 1+2, to the end", "jobs/s"),
    }
    for name, (label, unit) in labels.items():
        part = found[name]
        assert isinstance(part, dict)
        note = f"{part['count']:.0f} in {part['seconds']:.1f} s"
        bench.report.figure(label, [part["count"] / part["seconds"]], unit, note)
    bench.report.fact("version", str(found["version"]))
