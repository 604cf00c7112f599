"""What schedulers say when they refuse, cannot be reached, or have forgotten a job. Pure."""

import re
from enum import StrEnum
from typing import Final


class Limit(StrEnum):
    """What a refused job was too much for."""

    JOBS = "jobs"  # too many of them: later it may be taken
    WALLTIME = "walltime"
    ACCOUNT = "account"
    QUEUE = "queue"
    RESOURCES = "resources"
    UNKNOWN = "unknown"


_LIMITS: Final = {
    Limit.JOBS: r"Max(Submit|Jobs?)|Grp(Submit|Jobs)|job violates accounting/QOS policy|job count"
    r"|too many .*jobs|only \d+ jobs|would exceed .*limit|pending job threshold"
    r"|limit.* number of jobs|maximum (number|total) .*jobs",
    Limit.WALLTIME: r"time ?limit|walltime|run ?limit|h_rt",
    Limit.ACCOUNT: r"account|project|not authori[sz]ed|permission|cannot use the queue",
    Limit.QUEUE: r"partition|queue",
    Limit.RESOURCES: r"node|generic resource|gres|memory|cpu|processor|resource|environment"
    r"|licen[sc]e|requirements",
}

REMEDIES: Final = {
    Limit.JOBS: "It is tried again later; a smaller max_jobs of the partition avoids this.",
    Limit.WALLTIME: "Set a walltime in qfarm.toml that this queue allows.",
    Limit.ACCOUNT: "Set the account in qfarm.toml to one that may use this queue.",
    Limit.QUEUE: "Set the queue in qfarm.toml to one that there is.",
    Limit.RESOURCES: "Ask for nodes, cores, memory and gpus in qfarm.toml that the queue has.",
    Limit.UNKNOWN: "`qfarm launch --dry-run` prints the job script; try it by hand.",
}

_AWAY: Final = (
    r"unable to contact|cannot (connect|contact)|can't connect|failed to (connect|contact|open)"
    r"|unable to (connect|send message)|connection (refused|timed out|reset)|connect failure"
    r"|timed out|communication (connection )?fail|temporarily unable|not responding"
    r"|(LIM|server|daemon|qmaster|schedd).* (is )?(down|not running)|could not contact"
    r"|got no connection|protocol authentication error|no route to host"
)

_GONE: Final = (
    r"invalid job ?id|unknown job|no such job|job.* (not found|has finished|is not found)"
    r"|already (complet|finished|terminated)|job.* does not exist|accounting storage is disabled"
    r"|no (unfinished |matching )?jobs? found|couldn't find"
    r"|no such .*accounting|job id .* is not available"
)


def limit(text: str) -> Limit:
    """Which limit a refusal may be about."""
    found = (kind for kind, words in _LIMITS.items() if re.search(words, text, re.IGNORECASE))
    return next(found, Limit.UNKNOWN)


def away(text: str) -> bool:
    """Whether a scheduler's command could not reach it."""
    return re.search(_AWAY, text, re.IGNORECASE) is not None


def gone(text: str) -> bool:
    """Whether every line says that a job is not known, or has ended."""
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and all(re.search(_GONE, line, re.IGNORECASE) for line in lines)
