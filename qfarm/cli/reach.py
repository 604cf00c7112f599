"""Reach: whether jobs of a cluster can reach the farm's MongoDB, as far as qfarm.toml tells."""

import re
from collections.abc import Sequence
from typing import Final

from qfarm import config
from qfarm.config import Farm
from qfarm.errors import UserError
from qfarm_schemas.config import Partition

TUNNEL: Final = (
    "Unless its nodes are this machine, give it a prologue that opens a tunnel: deploy/hpc.md, "
    "section 3."
)
"""What to do where no tunnel is opened."""


def unreached(farm: Farm, partitions: Sequence[Partition]) -> str:
    """Which partitions' jobs will not find MongoDB; empty where nothing speaks against it.

    The private MongoDB of `qfarm up` listens on loopback alone, which on another node is that
    node's own.
    """
    try:
        if config.given_uri(farm):
            return ""
    except UserError:
        return ""  # who opens the store is told why
    names = [repr(one.name) for one in partitions if one.scheduler != "local" and not _tunnel(one)]
    if not names:
        return ""
    plural = "s" if len(names) > 1 else ""
    return (
        f"jobs of partition{plural} {', '.join(names)} open no tunnel to the farm's MongoDB, which "
        "listens on 127.0.0.1 of this machine alone"
    )


def _tunnel(partition: Partition) -> bool:
    """Whether the lines before the worker seem to open one."""
    return any(re.search(r"tunnel|\bssh\b", line) for line in partition.prologue)
