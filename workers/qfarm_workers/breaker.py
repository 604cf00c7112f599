"""Breaker: failures in a row that may be the node's, and engines must be tested again. Pure.

A node with a broken library fails a fragment a second; before anybody else has had a chance to
succeed with them, it would have eaten the node budget of the whole queue. So a worker doubts its
node first.
"""

from dataclasses import dataclass, field
from typing import Final

from qfarm_schemas.attempt import Attempt, Failure
from qfarm_schemas.failure import OF_SIZE, Budget

IN_A_ROW: Final = 3
"""Different fragments that fail one after the other before the engine is tested again."""


@dataclass
class Breaker:
    """What one worker thinks of the engines on its node.

    Each engine has its own row: where tblite goes well, FHI-aims may still not find its libraries.

    Attributes
    ----------
    rows : dict
        Engine -> fragments that failed in a row, each once, oldest first.
    broken : dict
        Engine -> why the worker claims nothing more for it.
    """

    rows: dict[str, tuple[str, ...]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def note(self, engine: str, made: Attempt) -> None:
        """Take an attempt into account, made by the engine that the stage's level names."""
        speaks = _speaks(made)
        if speaks is None:
            return
        row = self.rows.get(engine, ())
        if not speaks:
            self.rows.pop(engine, None)
        elif made.fragment_id not in row:
            self.rows[engine] = (*row, made.fragment_id)

    @property
    def tripped(self) -> frozenset[str]:
        """Engines that must pass the self-test before more is claimed for them."""
        doubtful = (name for name, row in self.rows.items() if len(row) >= IN_A_ROW)
        return frozenset(doubtful) - self.broken.keys()

    def tested(self, engine: str, why: str) -> None:
        """Take a self-test into account; `why` it failed, empty when it passed."""
        self.rows.pop(engine, None)
        if why:
            self.broken[engine] = why


def _speaks(made: Attempt) -> bool | None:
    """Whether an attempt speaks against the node (True), for it (False), or not at all (None)."""
    if not isinstance(made.outcome, Failure):
        return False
    kind = made.outcome.kind
    if kind in OF_SIZE or kind.budget is Budget.INFRASTRUCTURE:
        return None
    return kind.budget is Budget.NODE
