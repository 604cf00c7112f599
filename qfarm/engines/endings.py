"""How a program of the site can end for reasons outside chemistry: killed, not found, disk full.

Shared by the engines that run a program. They ask when a run did not end in order; a program that
finished may have warned of anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Final

from qfarm.engines.base import Exit
from qfarm.engines.inprocess import tails
from qfarm_schemas.attempt import Failure
from qfarm_schemas.failure import FailureKind

STREAMS: Final = ("stderr.txt", "stdout.txt", "slurm*.out", "slurm*.err")
"""Files where the system, the shell and the batch system speak, the likeliest first."""


@dataclass(frozen=True)
class Reason:
    """What an ending means."""

    kind: FailureKind
    cause: str
    remedy: str


_MEMORY: Final = Reason(
    FailureKind.OUT_OF_MEMORY,
    "the program ran out of memory",
    "Raise memory_mb of the stage and the partition, or run such fragments on larger nodes.",
)

_MISSING: Final = Reason(
    FailureKind.ENGINE_MISSING,
    "the program could not be started",
    "Check command and prologue of the engine in qfarm.toml: log in to a node of the partition "
    "and start the program by hand.",
)

_DISK: Final = Reason(
    FailureKind.SCRATCH_FULL,
    "the disk is full",
    "Free space in the scratch folder, or set scratch in qfarm.toml to a larger disk.",
)

_GPU_MEMORY: Final = Reason(
    FailureKind.OUT_OF_MEMORY,
    "the GPU ran out of memory",
    "Let fewer slots share a GPU (slots and gpus of the partition), or run such fragments on GPUs "
    "with more memory, or on CPUs.",
)

_FILES: Final = Reason(
    FailureKind.CRASHED,
    "a file system of the node failed",
    "Nothing, if it happened once: the stage is tried again. If it is always the same node, tell "
    'the operators; scratch on a disk of the node itself (scratch = "$TMPDIR") avoids the network.',
)

_CPU: Final = Reason(
    FailureKind.ENGINE_MISSING,
    "the program was built for another kind of processor",
    "Build it for the oldest processor of the partition, or ask for nodes that it was built for "
    "(directives of the partition, for instance --constraint).",
)

_GPU: Final = Reason(
    FailureKind.ENGINE_MISSING,
    "the program cannot use a GPU there",
    "Run `nvidia-smi` on that node in a job. If it shows no GPU, set gpus of the partition, and "
    "what its jobs ask for; errors of the GPU itself are for the operators.",
)

_LICENCE: Final = Reason(
    FailureKind.ENGINE_MISSING,
    "the program got no licence",
    "Ask the operators whether the licence server runs and that node may reach it; then `qfarm "
    "retry`.",
)

_CONTACT: Final = Reason(
    FailureKind.CRASHED,
    "MPI lost contact with a node of the job",
    "Nothing, if it happened once: the stage is tried again. If it is always the same node, tell "
    "the operators.",
)

_LAUNCH: Final = Reason(
    FailureKind.ENGINE_MISSING,
    "MPI could not start the program on its nodes",
    "Once is nothing to mend: the stage is tried again. If it happens always, try command and "
    "prologue of the engine by hand in a job of the partition.",
)

_BUS: Final = Reason(
    FailureKind.CRASHED,
    "the program lost memory that it was using (SIGBUS)",
    "Most often /dev/shm of the node is full or too small for MPI (`df /dev/shm`, also in its "
    "container), or a file that it had open was cut short; else the node's memory is faulty.",
)

_WALLTIME: Final = Reason(
    FailureKind.WALLTIME,
    "the batch system ended the job",
    "Nothing to do: the stage goes on in the next batch job. If it happens each time, set "
    "walltime of the partition to what the batch system grants.",
)

_STOPPED: Final = Reason(
    FailureKind.WALLTIME,
    "something outside asked the process to end, as batch systems do when a job's time is over",
    "If it happens often, ask the operators of the machine who ends processes there.",
)

_KILLED: Final = Reason(
    FailureKind.CRASHED,
    "something outside killed the process and left no word why",
    "Most often the kernel does this when memory runs out: look at the node's log, and raise "
    "memory_mb or lower the partition's slots.",
)

_SAID: Final = (
    (
        r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|CUDA(?: error:)? out of memory"
        r"|OutOfMemoryError: Out of memory allocating",
        _GPU_MEMORY,
    ),
    (
        r"oom[-_ ]?kill|Out Of Memory|out-of-memory handler|std::bad_alloc"
        r"|insufficient virtual memory|Cannot allocate memory|exceeded .{0,40}memory limit"
        r"|\bmem \S+ exceeded limit|TERM_MEMLIMIT",
        _MEMORY,
    ),
    (r"No space left on device|Disk quota exceeded", _DISK),
    (
        r"DUE TO TIME LIMIT|CANCELLED AT|DUE TO PREEMPTION|DUE TO NODE FAILURE"
        r"|^srun: error: Node failure on|Job/step already completing or completed"
        r"|walltime \S+ exceeded limit|TERM_RUNLIMIT",
        _WALLTIME,
    ),
    (
        r"Stale (?:NFS )?file handle|(?:Remote I/O|Input/output) error|Read-only file system"
        r"|Transport endpoint is not connected|Cannot send after transport endpoint shutdown",
        _FILES,
    ),
    (
        r"Illegal instruction|not built to run (?:on|in) (?:the|your) (?:processor|system)"
        r"|the processor supports? Intel",
        _CPU,
    ),
    (
        r"no CUDA-capable device|CUDA_ERROR_NO_DEVICE|CUDA_ERROR_ECC_UNCORRECTABLE"
        r"|uncorrectable ECC error|NVRM: Xid|fallen off the bus"
        r"|CUDA driver version is insufficient|CUDA-capable device\(s\) is/are busy"
        r"|CUDA_ERROR_(?:INVALID_DEVICE|SYSTEM_\w+|DEVICE_UNAVAILABLE)",
        _GPU,
    ),
    (
        r"could not check ?out .{0,20}licen[cs]e|licen[cs]e check ?out failed"
        r"|(?:FLEX(?:net|lm)|licensing) error|(?:connect|connection) to the license server",
        _LICENCE,
    ),
    (
        r"(?:ORTE|PRTE) has lost communication|slurm_receive_msgs?: .*(?:fail|time[d ]* ?out)"
        r"|Communication connection failure",
        _CONTACT,
    ),
    (
        r"^srun: error: (?:Unable to create step|Task launch for|Application launch failed"
        r"|Unable to confirm allocation)|task \d+ launch failed"
        r"|(?:ORTE|PRTE) was unable to reliably start|(?:ORTE|PRTE) daemon has unexpectedly failed"
        r"|PMI2?_Init failed|not built with SLURM's PMI support"
        r"|MPI_INIT failed|MPI runtime init failed|MPI_Init(?:_thread)?\(.*\) failed"
        r"|Fatal error in (?:P?MPI|internal)_Init",
        _LAUNCH,
    ),
    (
        r"command not found|error while loading shared libraries|cannot execute binary file"
        r"|^(?:\S*sh|env|mpirun|mpiexec|srun|slurmstepd|qfarm|execve)\b.*No such file or directory"
        r"|was unable to (?:find the specified executable|launch the specified application)"
        r"|not enough slots available|unable to locate a modulefile|module\(s\) are unknown"
        r"|Lmod has detected the following error|module: command not found",
        _MISSING,
    ),
)
"""Words and what they mean, surest first: a lack of memory or a full disk also ends batch jobs."""

_WORDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), reason) for pattern, reason in _SAID
)

_STEP: Final = re.compile(r"^.*\bSTEP \S+ ON \S+ CANCELLED AT (?!.*DUE TO).*$", re.MULTILINE)
_TASK: Final = re.compile(
    r"^srun: error: .*: (?:Segmentation fault|Aborted|Bus error|Illegal instruction"
    r"|Floating point exception|Exited with exit code)",
    re.MULTILINE,
)
"""srun cancels the step of a program whose ranks crash (``--kill-on-bad-exit``): the batch job goes
on, and the line that announces it says nothing of why."""

_CODES: Final = {
    126: _MISSING,
    127: _MISSING,
    -4: _CPU,  # SIGILL
    132: _CPU,
    -7: _BUS,
    135: _BUS,
    -9: _KILLED,
    137: _KILLED,
    -15: _STOPPED,
    143: _STOPPED,
    -24: _STOPPED,  # SIGXCPU
    152: _STOPPED,
    -25: _DISK,  # SIGXFSZ
    153: _DISK,
}
"""Exit codes, the shell's 128 + signal among them."""


def ending(files: Mapping[str, str], ended: Exit) -> Failure | None:
    """Say why a program ended that did not end by itself; None when nothing tells.

    Parameters
    ----------
    files : mapping
        Name -> text of what lies in the scratch folder.
    ended : Exit
        How the process ended.
    """
    told = said(files, ended)
    if told is not None:
        return told
    silent = 0 < ended.code < 126 and not files.get("stdout.txt", "-").strip()
    by_code = _CODES.get(ended.code, _MISSING if silent else None)
    return _failure(by_code, files, ended, "") if by_code else None


def said(files: Mapping[str, str], ended: Exit) -> Failure | None:
    """Likewise by words alone; None when nothing is said."""
    for pattern, reason in _WORDS:
        for name, text in _streams(files):
            found = pattern.search(text)
            if found:
                return _failure(reason, files, ended, f"{name}: {_line(text, found)}")
    return None


def signalled(files: Mapping[str, str], ended: Exit) -> Failure | None:
    """Likewise by the signal alone that ended the process; None for one that tells nothing."""
    reason = _CODES.get(ended.code) if ended.code < 0 else None
    return _failure(reason, files, ended, "") if reason else None


def _streams(files: Mapping[str, str]) -> list[tuple[str, str]]:
    names = [name for pattern in STREAMS for name in sorted(files) if fnmatch(name, pattern)]
    crashed = any(_TASK.search(files[name]) for name in names)
    return [(name, _STEP.sub("", files[name]) if crashed else files[name]) for name in names]


def _line(text: str, found: re.Match[str]) -> str:
    """The line in which the words stand."""
    start = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.end())
    return text[start : end if end >= 0 else len(text)].strip()


def _failure(reason: Reason, files: Mapping[str, str], ended: Exit, said: str) -> Failure:
    words = {"message": said} if said else {}
    return Failure(
        kind=reason.kind,
        cause=f"{reason.cause} (exit code {ended.code}{f'; {said}' if said else ''})",
        evidence={"exit code": ended.code, **words, **tails(files)},
        remedy=reason.remedy,
    )
