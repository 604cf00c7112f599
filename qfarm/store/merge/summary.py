"""Summary: what a merge did, or would do."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from qfarm.store.merge.adopting import Case
from qfarm.store.merge.judge import Difference, Kind
from qfarm.store.merge.theirs import Theirs
from qfarm.store.protocol import StageState
from qfarm_schemas.base import Model

SHOWN: Final = 5
"""Reasons that are kept."""


_LEFT_OVER: Final = (
    "results of it are in this farm, but not its queue entries (`lpad delete_wflows`?): "
    "run `qfarm fsck`, then merge again"
)


class Apart(Model):
    """How far the two farms' records of one stage are apart at the most.

    Attributes
    ----------
    energy : float
        eV.
    force : float
        Of one component, eV/A.
    shift : float
        Of one coordinate, A.
    fragment_id : str
        Where the energies are farthest apart.
    """

    energy: float = 0.0
    force: float = 0.0
    shift: float = 0.0
    fragment_id: str = ""

    def widened(self, found: Difference, fragment_id: str) -> "Apart":
        """With another difference taken into account."""
        farther = not self.fragment_id or found.energy > self.energy
        return Apart(
            energy=max(self.energy, found.energy),
            force=max(self.force, found.force),
            shift=max(self.shift, found.shift),
            fragment_id=fragment_id if farther else self.fragment_id,
        )


class Merged(Model):
    """What became of one file.

    Attributes
    ----------
    file, database : str
        The file, and the database that it is a backup of.
    taken : datetime
        When.
    dry_run : bool
        Whether nothing was written.
    new, known : int
        Workflows that were not known here, and that were.
    left_out : int
        Workflows of the file that are not whole.
    unsound : int
        Known workflows that are not whole here; nothing was changed in them.
    lacked : int
        Known workflows whose fragment or stages were missing here, and are there again.
    foreign : int
        Queue entries of the file that are none of qfarm.
    reasons : tuple of str
        Why the first of those that were left out were.
    added : dict
        Stages of new workflows, by state.
    were_running : int
        Those of them that ran there when the backup was made, and are ready here.
    stages : dict
        Stages of known workflows by name, then by `Kind`.
    apart : dict
        By name of stage, for records that differ.
    """

    file: str
    database: str
    taken: datetime
    dry_run: bool
    new: int
    known: int
    left_out: int
    unsound: int
    lacked: int = 0
    foreign: int
    reasons: tuple[str, ...]
    added: Mapping[str, int]
    were_running: int
    stages: Mapping[str, Mapping[str, int]]
    apart: Mapping[str, Apart]

    def total(self, kind: Kind) -> int:
        """Stages of one kind, whatever their name."""
        return sum(counts.get(kind, 0) for counts in self.stages.values())


class Tally:
    """Adds up what becomes of workflows."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._added: Counter[str] = Counter()
        self._stages: dict[str, Counter[str]] = {}
        self._apart: dict[str, Apart] = {}
        self._reasons: list[str] = []

    def unfit(self, key: str, reason: str) -> None:
        """Count a workflow that is left out."""
        self._counts["left_out"] += 1
        if len(self._reasons) < SHOWN:
            self._reasons.append(f"{key[:9]}: {reason}")

    def take(
        self,
        added: Sequence[Theirs],
        cases: Sequence[Case],
        left_over: Sequence[str],
        lacked: int = 0,
    ) -> int:
        """Count workflows that were added, that were known, and whose results lie here alone."""
        for theirs in added:
            self._add(theirs)
        for case in cases:
            self._judge(case)
        self._counts["lacked"] += lacked
        for key in left_over:
            self.unfit(key, _LEFT_OVER)
        return len(added) + len(cases) + len(left_over)

    def merged(self, foreign: int, **fields: Any) -> Merged:
        """The sum, with what else there is to say of the file."""
        names = ("new", "known", "left_out", "unsound", "lacked", "were_running")
        counts = {name: self._counts[name] for name in names}
        return Merged(
            **counts,
            foreign=foreign,
            reasons=tuple(self._reasons),
            added=dict(self._added),
            stages={name: dict(found) for name, found in self._stages.items()},
            apart=self._apart,
            **fields,
        )

    def _add(self, theirs: Theirs) -> None:
        self._counts["new"] += 1
        for stage in theirs.stages:
            self._added[_planned(stage.state)] += 1
            self._counts["were_running"] += stage.state is StageState.RUNNING

    def _judge(self, case: Case) -> None:
        self._counts["known"] += 1
        self._counts["unsound"] += not case.judgements
        for stage, found in zip(case.theirs.stages, case.judgements, strict=False):
            self._stages.setdefault(stage.entry.stage, Counter())[found.kind] += 1
            if found.difference is not None:
                before = self._apart.get(stage.entry.stage, Apart())
                fragment_id = case.theirs.plan.fragment.id
                self._apart[stage.entry.stage] = before.widened(found.difference, fragment_id)


def _planned(state: StageState) -> str:
    """State in which a stage comes here: what ran or waited there is to be computed."""
    ended = (StageState.DONE, StageState.FAILED, StageState.CANCELLED)
    return state.value if state in ended else "to compute"
