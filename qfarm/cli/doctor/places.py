"""What the doctor looks at besides engines: MongoDB, the queue, scratch space, commands."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qfarm import config
from qfarm.cli.doctor.finding import Finding, Verdict
from qfarm.cli.launch import NO_SCHEDULER
from qfarm.cli.reach import TUNNEL, unreached
from qfarm.cli.wording import counted
from qfarm.config import FILE, Farm
from qfarm.errors import UserError
from qfarm.store import open_store
from qfarm.store.protocol import Need
from qfarm_launchers.batch import BatchSystem
from qfarm_schemas.config import Partition
from qfarm_workers.scratch import SMALLEST_ROOM

LITTLE_ROOM: Final = 5000.0
"""MB: PySCF and FHI-aims may write some GB of temporaries for each attempt."""

COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "Slurm": ("sbatch", "squeue", "scancel", "sacct", "srun"),
    "Grid Engine or PBS": ("qsub", "qstat", "qdel"),
    "LSF": ("bsub", "bjobs", "bkill"),
    "OAR": ("oarsub", "oarstat", "oardel"),
    "HTCondor": ("condor_submit", "condor_q", "condor_rm"),
}
"""Commands of the schedulers that are looked for."""

_QUEUE: Final = "queued work"


def mongo(farm: Farm) -> Iterator[Finding]:
    """Whether MongoDB answers, is a replica set, and keeps what is written."""
    from qfarm.store.probe import probe

    try:
        answer = probe(config.mongo_uri(farm), farm.config.mongo.database)
    except UserError as error:
        yield Finding("MongoDB", "no answer", Verdict.FAULT, error.what, error.remedy)
        return
    yield Finding(
        "MongoDB",
        f"{answer.version} at {answer.where}, replica set {answer.replica_set}; written and read "
        f"back in {1000 * answer.seconds:.0f} ms",
    )


def queue(farm: Farm, partitions: Sequence[Partition]) -> tuple[Finding, tuple[Need, ...]]:
    """What is queued for the partitions."""
    try:
        with open_store(config.mongo_uri(farm), farm.config.mongo.database) as store:
            needs = store.needs()
    except UserError as error:
        return Finding(_QUEUE, "cannot be read", Verdict.FAULT, error.what, error.remedy), ()
    names = (None, *(partition.name for partition in partitions))
    mine = tuple(need for need in needs if need.partition in names)
    total = sum(need.stages for need in mine)
    levels = len({need.level.id for need in mine})
    found = f"{counted(total, 'stage')} at {counted(levels, 'level')} of theory"
    return Finding(_QUEUE, found if mine else "none"), mine


def unasked() -> Finding:
    """The queue where MongoDB does not answer, which is no fault of the queue."""
    return Finding(_QUEUE, "not to be asked without MongoDB", Verdict.UNKNOWN)


def launchpad(farm: Farm) -> Finding:
    """Whether FireWorks' own commands would find this database."""
    from qfarm.store.credentials import launchpad_text

    check, fields = "FireWorks' launchpad", _launchpad_fields(farm)
    try:
        written = farm.launchpad.read_text(encoding="utf-8", errors="replace")
    except OSError:
        written = None
    if fields is None or written is None:
        what = f"there is no {farm.launchpad}: FireWorks' own commands (lpad) do not find the farm"
        return Finding(check, "none", Verdict.WARNING, what, "Run `qfarm up`: it writes the file.")
    if written != launchpad_text(fields):
        what = f"{farm.launchpad} is not for the MongoDB that the farm uses now"
        return Finding(
            check, "another", Verdict.WARNING, what, "Run `qfarm up`: it writes it anew."
        )
    return Finding(check, str(farm.launchpad))


def _launchpad_fields(farm: Farm) -> dict[str, Any] | None:
    """Fields that `qfarm up` would write; None before its first run."""
    from qfarm.store.credentials import private_launchpad, read_credentials, uri_launchpad

    database = farm.config.mongo.database
    try:
        given = config.given_uri(farm)
    except UserError:
        return None  # `mongo` tells why
    if given:
        return uri_launchpad(given, database)
    known = read_credentials(farm.mongo_folder)
    return private_launchpad(known, database) if known else None


def scratch(folder: Path) -> Finding:
    """Whether attempts can write, and how much."""
    check = "scratch space"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
        free = shutil.disk_usage(folder).free / 2**20
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror}"
        return Finding(check, "not writable", Verdict.FAULT, what, _OTHER_SCRATCH)
    found = f"{free:,.0f} MB free in {folder}"
    if free < SMALLEST_ROOM:
        what = f"only {free:.0f} MB are free in {folder}; workers start nothing below "
        return Finding(check, found, Verdict.FAULT, f"{what}{SMALLEST_ROOM:g} MB", _OTHER_SCRATCH)
    if free < LITTLE_ROOM:
        what = f"only {free:,.0f} MB are free in {folder}; large fragments may need more"
        return Finding(check, found, Verdict.WARNING, what, _OTHER_SCRATCH)
    return Finding(check, found)


def commands(partitions: Sequence[Partition]) -> Finding:
    """Which schedulers' commands are on PATH; missing ones matter where a partition needs them."""
    check = "cluster commands"
    there = {one for some in COMMANDS.values() for one in some if shutil.which(one)}
    found = "; ".join(_schedulers(there)) or "none on PATH"
    missing = {partition.name: BatchSystem(partition).missing() for partition in partitions}
    lines = [f"partition {name} needs {', '.join(some)}" for name, some in missing.items() if some]
    if not lines:
        return Finding(check, f"{found}; no partition needs any" if not there else found)
    what = f"{'; '.join(lines)}: not on PATH"
    return Finding(check, found, Verdict.FAULT, what, NO_SCHEDULER)


def reach(farm: Farm, partitions: Sequence[Partition]) -> Iterator[Finding]:
    """Whether jobs will find MongoDB; nothing is said where nothing speaks against it."""
    trouble = unreached(farm, partitions)
    if trouble:
        yield Finding("MongoDB from jobs", "no tunnel", Verdict.WARNING, trouble, TUNNEL)


def _schedulers(there: set[str]) -> Iterator[str]:
    for name, some in COMMANDS.items():
        here = [one for one in some if one in there]
        if here:
            lacking = [one for one in some if one not in there]
            yield f"{name}: {', '.join(here)}" + (f" (no {', '.join(lacking)})" if lacking else "")


_OTHER_SCRATCH: Final = f"""Free space there, or write into {FILE}, at its beginning:
scratch = "/a/larger/disk"  # local to the machine that computes"""
