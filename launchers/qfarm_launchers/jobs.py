"""dask-jobqueue's job objects: they write the job script and hand it to the scheduler."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from qfarm_launchers import commands
from qfarm_launchers.cluster import Choice
from qfarm_launchers.processes import Processes
from qfarm_launchers.schedulers import dialect
from qfarm_launchers.schedulers.base import Dialect


class CommandError(RuntimeError):
    """A scheduler's command ended with an error: what it said."""


def script(choice: Choice) -> str:
    """The job script as it would be submitted."""
    return str(job(choice).job_script())


def job(choice: Choice, processes: Processes | None = None) -> Any:
    """dask-jobqueue's object of one job; nothing is submitted before its `start`.

    It reads Dask's configuration for whatever is None. A user's own ``jobqueue.yaml`` is about
    other work of theirs: while the object is made, the configuration is the package's own.
    """
    import dask

    spoken = dialect(choice.scheduler)
    made = job_class(choice.scheduler)
    given = dict(choice.keywords)
    if choice.scheduler in ("htcondor", "local"):
        del given["walltime"]  # theirs is no keyword, or goes for nothing
    if choice.scheduler == "local":
        del given["shebang"]
    with dask.config.set({"jobqueue": _defaults()}):
        found = made(**given)
    found.order, found.dialect, found.processes = choice.order, spoken, processes
    return found


@cache
def job_class(scheduler: str) -> Any:
    """dask-jobqueue's job class, with our time limits and errors."""
    module = import_module(f"dask_jobqueue.{scheduler}")
    theirs = getattr(module, dialect(scheduler).cluster).job_cls
    ours = {"local": _Local, "lsf": _ByStdin, "htcondor": _Condor}.get(scheduler, _Timed)
    return type(theirs.__name__, (ours, theirs), {})


@cache
def _defaults() -> dict[str, Any]:
    """dask-jobqueue's own configuration, without half an hour of walltime."""
    import dask
    import dask_jobqueue  # noqa: F401 (which leaves its defaults there)

    found = next(given["jobqueue"] for given in dask.config.defaults if "jobqueue" in given)
    return {
        name: section | {"walltime": None, "death-timeout": None} for name, section in found.items()
    }


class _Timed:
    """Runs the scheduler's command within a time limit, and says all that it said."""

    dialect: Dialect

    async def _call(self, cmd: list[str], **keywords: object) -> str:
        return self._said(commands.run(cmd, self.dialect.clean, seconds=2 * commands.SECONDS))

    def _said(self, answer: commands.Answer) -> str:
        if answer.code != 0:
            raise CommandError(answer.said)
        return answer.out


class _ByStdin(_Timed):
    """LSF reads directives from standard input only; dask-jobqueue throws away what it refuses."""

    submit_command: str

    async def _submit_job(self, script_filename: str) -> str:
        text = Path(script_filename).read_text(encoding="utf-8")
        words = [self.submit_command]
        seconds = 2 * commands.SECONDS
        return self._said(commands.run(words, self.dialect.clean, text, seconds))


class _Condor(_Timed):
    """Prologues are written for bash."""

    executable = "/bin/bash"


class _Local(_Timed):
    """A process in place of a batch job: it outlives the launcher, and writes to a file."""

    order: Any
    processes: Processes
    job_id_regexp = r"(?P<job_id>\d+\.\d+)"

    async def _submit_job(self, script_filename: str) -> str:
        text = Path(script_filename).read_text(encoding="utf-8")
        kept = self.order.log.with_suffix(".sh")
        kept.write_text(text, encoding="utf-8")
        return self.processes.start(self.order.name, kept, self.order.log)
