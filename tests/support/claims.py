"""Claims for tests that need no store."""

from typing import Any

from qfarm.store.protocol import Claim
from qfarm_schemas.config import Partition
from support import build, engines

PARTITION = Partition(threads=1, memory_mb=3000)


def claim(program: str = "good", **fields: Any) -> Claim:
    base: dict[str, Any] = {
        "key": "w1.single_point",
        "workflow": "w1",
        "submitted": build.WATER,
        "start": build.WATER,
        "stage": engines.stage(program),
        "history": (),
        "number": 1,
        "token": "t1",
        "worker": build.WORKER,
        "claimed": build.NOW,
    }
    return Claim(**(base | fields))
