"""BatchSystem: submits, cancels and looks at the batch jobs of a partition."""

import asyncio
import getpass
import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from qfarm.errors import UserError
from qfarm_launchers import commands
from qfarm_launchers.cluster import choice
from qfarm_launchers.commands import Answer, SchedulerAway
from qfarm_launchers.jobs import CommandError, job, job_class, script
from qfarm_launchers.processes import Processes
from qfarm_launchers.schedulers import dialect
from qfarm_launchers.schedulers.base import (
    Account,
    Ending,
    EndingKind,
    JobOrder,
    Queued,
    QueueState,
    UnreadableError,
    first_line,
)
from qfarm_launchers.schedulers.words import REMEDIES, away, gone, limit
from qfarm_schemas.config import Partition

__all__ = [
    "BatchSystem",
    "Ending",
    "EndingKind",
    "QueueState",
    "Queued",
    "Refused",
    "SchedulerAway",
    "script",
]

_T = TypeVar("_T")

_ID: Final = re.compile(r"\w[\w.\[\]@-]*")
"""Ids come from the database, too: what begins with a dash would be an option, as ``--user``."""

AT_ONCE: Final = 100
"""Ids in one command to cancel: a command line has an end."""


class Refused(UserError):  # noqa: N818 (it is what happened, not a fault of ours)
    """A scheduler takes a job not, or does not do as asked; in its own words."""


class BatchSystem:
    """The scheduler behind a partition.

    Parameters
    ----------
    partition : Partition
        Whose jobs they are.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self._dialect = dialect(partition.scheduler)
        self._processes = Processes()

    def missing(self) -> tuple[str, ...]:
        """Commands without which no job can be kept, and that are not on this machine's PATH."""
        if self.partition.scheduler == "local":
            return ()
        theirs, ours = job_class(self.partition.scheduler), self._dialect
        asked = [] if ours.ids is None else [ours.ids("")]
        asked += [ours.queue("", ()), *([] if ours.gate is None else [ours.gate.command])]
        needed = (theirs.submit_command, theirs.cancel_command, *(words[0] for words in asked))
        return tuple(one for one in dict.fromkeys(needed) if shutil.which(one) is None)

    def submit(self, order: JobOrder) -> str:
        """Submit one job; the scheduler's id. Hosts that it knows no more cannot be left out.

        Raises
        ------
        Refused
            The scheduler does not take it.
        SchedulerAway
            It cannot be reached, or did not answer in time: whether it has the job is not known.
        ConfigError
            It cannot do what the partition asks for.
        """
        made = job(choice(self.partition, order), self._processes)
        try:
            order.log_folder.mkdir(parents=True, exist_ok=True)
            asyncio.run(made.start())
        except CommandError as error:
            if order.exclude and re.search(self._dialect.unknown_host, str(error), re.IGNORECASE):
                return self.submit(replace(order, exclude=()))
            raise self._refused(str(error)) from None
        except ValueError as error:  # it said yes without an id: by its name the job is found
            raise self._away(" ".join(str(error).split())) from None
        except OSError as error:
            raise self._not_written(error) from None
        return str(made.job_id)

    def cancel(self, ids: Iterable[str]) -> None:
        """End jobs, or ask them to end; those that have ended already are no error.

        Raises
        ------
        Refused
            The scheduler does not do it.
        SchedulerAway
            It cannot be reached.
        """
        wanted = tuple(one for one in ids if _ID.fullmatch(one))
        if self.partition.scheduler == "local":
            self._processes.cancel(wanted)
            return
        command = job_class(self.partition.scheduler).cancel_command
        for start in range(0, len(wanted), AT_ONCE):
            answer = self._run([command, *wanted[start : start + AT_ONCE]])
            if answer.code != 0 and answer.said and not gone(answer.said):
                raise self._trouble(answer.said)

    def queue(self) -> dict[str, Queued]:
        """Jobs of this user that have not ended, by id; those of other partitions, too.

        Raises
        ------
        SchedulerAway
            It gave no answer, or none that can be read.
        """
        if self.partition.scheduler == "local":
            return self._processes.queue()
        user = _user()
        found: tuple[str, ...] = ()
        if self._dialect.ids is not None:
            found = tuple(self._answer(self._dialect.ids(user)).split())
            if not found:
                return {}
        text = self._answer(self._dialect.queue(user, found))
        return self._read(self._dialect.read_queue, text)

    def ending(self, job_id: str) -> Ending | None:
        """How a job ended; None while it has not, or where nobody remembers.

        Raises
        ------
        SchedulerAway
            It cannot be reached.
        """
        if self.partition.scheduler == "local":
            return self._processes.ending(job_id)
        troubles = []
        for account in self._dialect.accounts:
            try:
                if (found := self._account(account, job_id)) is not None:
                    return found
            except SchedulerAway as trouble:
                troubles.append(trouble)
        if troubles:
            raise troubles[0]
        return None

    def available(self) -> str:
        """Why the partition takes no jobs at present; empty when it does, or where it is not said.

        Raises
        ------
        SchedulerAway
            It cannot be reached.
        """
        gate = self._dialect.gate
        if gate is None:
            return ""
        return self._read(lambda text: gate.read(text, self.partition), self._answer(gate.command))

    def _account(self, account: Account, job_id: str) -> Ending | None:
        answer = self._run(account.command(job_id))
        if answer.code != 0 and away(answer.said):
            raise self._away(answer.said)
        return self._read(account.read, answer.out) if answer.code == 0 else None

    def _run(self, words: Sequence[str]) -> Answer:
        return commands.run(words, self._dialect.clean)

    def _answer(self, words: Sequence[str]) -> str:
        """Output of a command that must succeed; what it says of jobs that are gone is no error."""
        answer = self._run(words)
        if answer.code != 0 and not gone(answer.err):
            raise self._away(answer.said or f"{words[0]} ended with exit code {answer.code}")
        return answer.out if answer.out.strip() else answer.err

    def _read(self, read: Callable[[str], _T], text: str) -> _T:
        try:
            return read(text)
        except UnreadableError as error:
            raise self._away(str(error)) from None

    def _trouble(self, said: str) -> UserError:
        return self._away(said) if away(said) else self._refused(said)

    def _away(self, said: str) -> SchedulerAway:
        return SchedulerAway(
            f"scheduler {self.partition.scheduler!r} of partition {self.partition.name!r} gives "
            f"no answer: {first_line(said)}",
            "Nothing is known of its jobs meanwhile; the launcher asks again.",
        )

    def _not_written(self, error: OSError) -> Refused:
        return Refused(
            f"no job of partition {self.partition.name!r} could be submitted from this machine: "
            f"{error}",
            "Its temporary folder and the farm's folder must have space, and your processes there "
            "a limit that leaves room; it is tried again later.",
        )

    def _refused(self, said: str) -> UserError:
        if away(said):
            return self._away(said)
        return Refused(
            f"scheduler {self.partition.scheduler!r} refused a job of partition "
            f"{self.partition.name!r}: {' '.join(said.split())}",
            REMEDIES[limit(said)],
        )


def _user() -> str:
    """Name of this user, by the id that the scheduler sees; LOGNAME may be anybody's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return getpass.getuser()
