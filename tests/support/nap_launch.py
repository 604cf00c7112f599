"""A launcher of such jobs, started as a process; it leaves word of the commands it sends.

``python -m support.nap_launch COUNTS PARTITION...``: COUNTS is a file that holds, as JSON, how many
commands of each name went to MongoDB.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pymongo import monitoring

from qfarm.cli.launch import Options, run


class Counting(monitoring.CommandListener):
    """Counts commands in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counter[str] = Counter()

    def started(self, event: Any) -> None:
        self._counts[event.command_name] += 1
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._counts))
        part.rename(self._path)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


if __name__ == "__main__":
    monitoring.register(Counting(Path(sys.argv[1])))
    run(Options(tuple(sys.argv[2:]), module="support.nap_job", quiet=True))
