"""jobflow-remote's side of the comparison: run by its own Python, which knows nothing of qfarm.

Arguments: address of MongoDB, database, an empty folder, flows to add, jobs to run. Prints one
line of JSON: seconds and counts of adding two-job flows, of bare checkouts, and of its runner with
a local batch worker on jobs that add two numbers.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def project(uri: str, database: str, folder: Path) -> dict[str, Any]:
    """Configuration of a project: all on this machine, all delays as short as they may be."""
    store = {"type": "MongoURIStore", "uri": uri, "database": database}
    program = Path(sys.executable).with_name("jf")
    for name in ("work", "handle", "batches"):
        (folder / name).mkdir()
    worker = {
        "type": "local",
        "scheduler_type": "shell",
        "work_dir": str(folder / "work"),
        "execution_cmd": f"{program} -fe execution run {{}}",
        "max_jobs": 1,
        "batch": {
            "jobs_handle_dir": str(folder / "handle"),
            "work_dir": str(folder / "batches"),
            "max_wait": 5,
            "sleep_time": 0.1,
        },
    }
    delays = ("checkout", "check_run_status", "advance_status", "update_batch")
    return {
        "name": "bench",
        "log_level": "error",
        "workers": {"here": worker},
        "queue": {"store": store | {"collection_name": "jobs"}},
        "runner": {f"delay_{name}": 1 for name in delays},
        "jobstore": {"docs_store": store | {"collection_name": "outputs"}},
    }


def timed(work: Callable[[], int]) -> dict[str, float]:
    """Seconds, and how many things were done."""
    began = time.perf_counter()
    count = work()
    return {"count": count, "seconds": time.perf_counter() - began}


def main() -> None:
    uri, database, place, flows, jobs = sys.argv[1:6]
    folder = Path(place)
    (folder / "projects").mkdir()
    (folder / "projects" / "bench.json").write_text(json.dumps(project(uri, database, folder)))
    os.environ |= {
        "JFREMOTE_PROJECTS_FOLDER": str(folder / "projects"),
        "JFREMOTE_PROJECT": "bench",
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    logging.disable(logging.WARNING)
    print(json.dumps(measure(int(flows), int(jobs))))


def measure(flows: int, jobs: int) -> dict[str, Any]:
    """Everything, on an empty queue."""
    from importlib.metadata import version

    from jobflow import Flow  # type: ignore[import-not-found]
    from jobflow_remote.jobs.jobcontroller import JobController  # type: ignore[import-not-found]
    from jobflow_remote.jobs.runner import Runner  # type: ignore[import-not-found]
    from jobflow_remote.testing import add  # type: ignore[import-not-found]

    controller = JobController.from_project_name("bench")

    def pair() -> Any:
        first = add(1, 2)
        return Flow([first, add(first.output, 3)])

    def submit(count: int) -> int:
        made = [pair() for _ in range(count)]
        answer = timed(lambda: sum(1 for flow in made if controller.add_flow(flow, worker="here")))
        results["add_flow"] = answer
        return count

    def checkout() -> int:
        return sum(1 for _ in range(flows) if controller.checkout_job())

    def run() -> int:
        Runner(project_name="bench").run_all_jobs(max_seconds=300)
        return int(controller.count_jobs(query={"state": "COMPLETED"}))

    results: dict[str, Any] = {"version": version("jobflow-remote")}
    controller.reset(max_limit=0, reset_output=True)
    submit(flows)
    results["checkout"] = timed(checkout)
    controller.reset(max_limit=0, reset_output=True)
    for _ in range(jobs // 2):
        controller.add_flow(pair(), worker="here")
    results["runner"] = timed(run)
    return results


if __name__ == "__main__":
    main()
