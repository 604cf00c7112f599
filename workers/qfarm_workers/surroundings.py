"""Surroundings: where and with what a worker runs; it looks once, when it starts.

Nothing is started for it: what a hung driver or file system would delay is left unknown.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlparse

from qfarm_schemas.attempt import Environment

PROC: Final = Path("/proc")

COMMIT_DIGITS: Final = 12
"""Characters of a commit's id; they name one commit in any repository."""

LONGEST: Final = 500
"""Characters of a node list that are kept; every attempt has it."""

MAKERS: Final[Mapping[str, str]] = {
    "0x41": "ARM",
    "0x46": "Fujitsu",
    "0x48": "HiSilicon",
    "0x4e": "NVIDIA",
    "0x51": "Qualcomm",
    "0x61": "Apple",
    "0xc0": "Ampere",
}
"""Implementers of ARM processors; ``/proc/cpuinfo`` names no model (Arm DDI 0487, MIDR_EL1)."""

PARTS: Final[Mapping[tuple[str, str], str]] = {
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x46", "0x001"): "A64FX",
    ("0x48", "0xd01"): "TaiShan v110",
    ("0xc0", "0xac3"): "Ampere-1",
}
"""Those parts that clusters have."""

_JOB_IDS: Final = ("SLURM_JOB_ID", "PBS_JOBID", "OAR_JOB_ID")
_NODE_FILES: Final = ("PBS_NODEFILE", "OAR_NODEFILE", "PE_HOSTFILE")
_NO_GPU: Final = ("", "-1", "NoDevFiles")
"""What ``CUDA_VISIBLE_DEVICES`` says where no GPU may be used."""


def surroundings(environment: Mapping[str, str] | None = None, proc: Path = PROC) -> Environment:
    """Where and with what the calling process runs; what cannot be found out is empty.

    Parameters
    ----------
    environment : mapping or None
        Environment variables; None: those of the calling process.
    proc : Path
        Where the kernel tells about the machine.
    """
    given = os.environ if environment is None else environment
    return Environment(
        cpu=cpu(_read(proc / "cpuinfo")),
        gpu=gpu(_gpus(proc), given.get("CUDA_VISIBLE_DEVICES")),
        modules=tuple(filter(None, given.get("LOADEDMODULES", "").split(":"))),
        qfarm=qfarm_version(),
        scheduler_job=scheduler_job(given),
        node_list=node_list(given)[:LONGEST],
    )


def cpu(cpuinfo: str) -> str:
    """Model of the processor, from the text of ``/proc/cpuinfo``."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    found: dict[str, str] = {}
    for name, _, value in lines:
        found.setdefault(name.strip(), " ".join(value.split()))
    if "CPU part" in found:
        return _arm(found.get("CPU implementer", ""), found["CPU part"])
    return found.get("model name", found.get("cpu", ""))  # the latter on POWER


def gpu(gpus: Sequence[tuple[str, str]], visible: str | None) -> str:
    """Models of the GPUs that may be used, for instance ``2 x NVIDIA H100``.

    Parameters
    ----------
    gpus : sequence of (str, str)
        Model and UUID of each GPU of the node.
    visible : str or None
        Value of ``CUDA_VISIBLE_DEVICES``; None: it is not set.
    """
    if visible is None:
        models = [model for model, _ in gpus]
    else:
        names = [name.strip() for name in visible.split(",")]
        usable = () if names[0] in _NO_GPU else names
        models = [model for name in usable if (model := _model(gpus, name))]
    return ", ".join(_times(count, model) for model, count in Counter(models).items())


def scheduler_job(environment: Mapping[str, str]) -> str:
    """Id of the batch job, as its scheduler knows it; empty outside of one."""
    for name in _JOB_IDS:
        if environment.get(name):
            return environment[name]
    if environment.get("LSB_JOBID"):
        index = environment.get("LSB_JOBINDEX", "0")
        return environment["LSB_JOBID"] + (f"[{index}]" if index != "0" else "")
    if environment.get("JOB_ID") and environment.get("SGE_ROOT"):  # a name that others use, too
        return environment["JOB_ID"]
    return _condor_job(_read(Path(environment.get("_CONDOR_JOB_AD") or os.devnull)))


def node_list(environment: Mapping[str, str]) -> str:
    """Nodes of the batch job, where there are several; empty for one."""
    slurm = environment.get("SLURM_JOB_NODELIST", "")
    if environment.get("SLURM_JOB_NUM_NODES", "1") != "1":
        return slurm
    files = (_read(Path(environment[name])) for name in _NODE_FILES if environment.get(name))
    named = [line.split()[0] for text in files for line in text.splitlines() if line.strip()]
    nodes = tuple(dict.fromkeys(named or environment.get("LSB_HOSTS", "").split()))
    return ",".join(nodes) if len(nodes) > 1 else ""


def qfarm_version() -> str:
    """Version of qfarm, with its commit where that can be known."""
    try:
        installed = distribution("qfarm")
    except PackageNotFoundError:
        return ""
    commit = commit_of(installed.read_text("direct_url.json") or "")
    return f"{installed.version} ({commit[:COMMIT_DIGITS]})" if commit else installed.version


def commit_of(direct_url: str) -> str:
    """Commit that a package was installed from; empty where that is not known.

    Parameters
    ----------
    direct_url : str
        Text of ``direct_url.json`` (PEP 610), which pip writes for what came from no index.
    """
    try:
        told = json.loads(direct_url)
        if "vcs_info" in told:
            return str(told["vcs_info"]["commit_id"])
        if told["dir_info"].get("editable"):
            return head(Path(unquote(urlparse(told["url"]).path)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return ""


def head(folder: Path) -> str:
    """Commit that a folder under git is at, read without git; empty where it cannot be."""
    git = folder / ".git"
    elsewhere = re.match(r"gitdir: (.+)", _read(git)) if git.is_file() else None
    if elsewhere:  # a worktree
        git = folder / elsewhere.group(1)
    name = _read(git / "HEAD").strip()
    if not name.startswith("ref: "):
        return name
    ref = name.removeprefix("ref: ")
    common = git / (_read(git / "commondir").strip() or ".")
    packed = re.search(rf"^(\w+) {re.escape(ref)}$", _read(common / "packed-refs"), re.MULTILINE)
    return _read(common / ref).strip() or (packed.group(1) if packed else "")


def _arm(maker: str, part: str) -> str:
    name = PARTS.get((maker, part), f"part {part}")
    return f"{MAKERS.get(maker, f'implementer {maker}')} {name}".strip()


def _gpus(proc: Path) -> list[tuple[str, str]]:
    """Model and UUID of each NVIDIA GPU, in the order of their places on the bus."""
    texts = (_read(path) for path in _sorted(proc / "driver/nvidia/gpus"))
    return [
        (model.group(1).strip(), uuid.group(1) if uuid else "")
        for text in texts
        if (model := re.search(r"^Model:\s*(.+)$", text, re.MULTILINE))
        for uuid in (re.search(r"^GPU UUID:\s*(\S+)", text, re.MULTILINE),)
    ]


def _sorted(gpus: Path) -> Iterable[Path]:
    with suppress(OSError):
        return [folder / "information" for folder in sorted(gpus.iterdir())]
    return ()


def _model(gpus: Sequence[tuple[str, str]], name: str) -> str:
    """Model of a GPU by what ``CUDA_VISIBLE_DEVICES`` calls it; empty where there is no such."""
    if name.isdecimal():
        # In a batch job it may count the job's own GPUs while /proc shows all of the node.
        return gpus[int(name)][0] if int(name) < len(gpus) else ""
    matching = (model for model, uuid in gpus if uuid and uuid.startswith(name))
    part = f"part of {gpus[0][0]}" if name.startswith("MIG-") and gpus else ""
    return next(matching, part)


def _times(count: int, model: str) -> str:
    return model if count == 1 else f"{count} x {model}"


def _condor_job(advertisement: str) -> str:
    """Id of an HTCondor job, from the file that describes it to itself."""
    values = dict(_pairs(advertisement))
    cluster, process = values.get("ClusterId"), values.get("ProcId", "0")
    return f"{cluster}.{process}" if cluster else ""


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
