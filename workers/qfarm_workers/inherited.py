"""Inherited: what engine processes see of the environment of their worker. Pure."""

from collections.abc import Mapping
from typing import Final

_THREAD_COUNTS: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

_OURS: Final = "QFARM_"
"""Prefix of qfarm's own environment variables; they may hold a password."""


def environment(inherited: Mapping[str, str], threads: int) -> dict[str, str]:
    """Environment of the supervisor: thread counts pinned, qfarm's own variables left out."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_OURS)}
    pinned = dict.fromkeys(_THREAD_COUNTS, str(threads))
    # TMPDIR of an engine process is its scratch folder: libraries that read it at import get a
    # relative path, because they are imported before the folder is known.
    return kept | pinned | {"TMPDIR": ".", "OMP_DYNAMIC": "FALSE"}
