"""The invariants of a farm, one entry each: what it says, how it is found, how it is cured."""

from typing import Final, NamedTuple

from qfarm.store.fsck import launches, results, states, workflows
from qfarm.store.fsck.model import Check
from qfarm.store.fsck.tools import Repair


class Invariant(NamedTuple):
    """What must hold.

    Attributes
    ----------
    name : str
        Short name.
    means : str
        The promise in a chemist's words.
    cure : str
        What ``--repair`` does, or what the user does where it can do nothing.
    per : str
        What is counted as checked.
    find : callable or None
        Findings in one workflow; None for what is looked at elsewhere in this package.
    repair : callable or None
        Changes that cure a finding; None when there are none, or they are made elsewhere.
    """

    name: str
    means: str
    cure: str
    per: str
    find: Check | None = None
    repair: Repair | None = None

    @property
    def curable(self) -> bool:
        """Whether ``--repair`` can do anything."""
        return not self.cure.startswith("cannot be repaired")


_W, _S = "workflows", "stages"
_BACKUP = "cannot be repaired: get it from a backup (`qfarm restore` into another database)"

_MERGE = (
    "cannot be repaired: `qfarm merge FILE` with a backup that has them puts them back; then "
    "`qfarm retry`"
)

INVARIANTS: Final = (
    Invariant(
        "entry",
        "every stage in the queue says which fragment and stage it is",
        "cannot be repaired, and is never run: cancel it and submit the fragment again",
        _S,
        workflows.entries,
    ),
    Invariant(
        "one workflow",
        "a fragment and a protocol have one workflow",
        "written again from its stages; one without stages is put into lost_found: submit again",
        _W,
        workflows.one_workflow,
        workflows.one_workflow_again,
    ),
    Invariant(
        "all stages",
        "a workflow has each of its stages once, in order",
        "a missing stage is written again and waits; a twin is put into lost_found",
        _W,
        workflows.all_stages,
        workflows.all_stages_again,
    ),
    Invariant(
        "links",
        "FireWorks' workflow lists its stages one after the other",
        "written again",
        _W,
        workflows.links,
        workflows.links_again,
    ),
    Invariant(
        "contents",
        "the fragment and the stages that the queue names are in the store",
        _MERGE,
        _S,
        workflows.contents,
    ),
    Invariant(
        "state",
        "every stage is in a state that FireWorks knows",
        "failed, with the reason; `qfarm retry` makes it ready",
        _S,
        states.known,
        states.known_again,
    ),
    Invariant(
        "lease",
        "what runs is run by a worker that lives",
        "made ready again with its budgets; or start `qfarm run`, which takes it over by itself",
        _S,
        states.lease,
        states.lapsed,
    ),
    Invariant(
        "one success",
        "an accepted stage has one successful attempt, the one its record names",
        "a lost attempt is told again by the record; a record or a success that nothing bears out "
        "is put aside, and the stage computed again",
        _S,
        results.one_success,
        results.one_success_again,
    ),
    Invariant(
        "attempt numbers",
        "the attempts at a stage are numbered 1, 2, 3 without gaps",
        "a failed attempt that says that it was lost is put into the gap",
        _S,
        results.numbers,
        results.numbers_again,
    ),
    Invariant(
        "record there",
        "every accepted stage has its record",
        "computed again with its budgets; or get the record from a backup first",
        _S,
        results.has_record,
        results.compute_again,
    ),
    Invariant(
        "record accepted",
        "every record belongs to a stage that is done",
        "done if its successful attempt is there; else the record is put into lost_found",
        _S,
        results.is_accepted,
        results.accept_again,
    ),
    Invariant(
        "record in place",
        "every record says to which workflow it belongs, so that exports find it",
        "written again",
        _S,
        results.in_place,
        results.into_place,
    ),
    Invariant(
        "attempt count",
        "a stage counts its attempts rightly",
        "counted again",
        _S,
        results.counted,
        results.count_again,
    ),
    Invariant(
        "old lease",
        "only what runs has a lease",
        "removed",
        _S,
        states.no_lease,
        states.no_lease_again,
    ),
    Invariant(
        "order",
        "a stage is ready once the stage before it is done, and waits until then",
        "made ready, or made to wait",
        _S,
        states.released,
        states.released_again,
    ),
    Invariant(
        "reason",
        "every failed stage says why",
        "the last attempt's reason is written",
        _S,
        states.reason,
        states.reason_again,
    ),
    Invariant(
        "launch state",
        "FireWorks' launch of a stage is in the state of the stage",
        "written again from the lease or the accepted attempt",
        _S,
        launches.one_launch,
        launches.one_launch_again,
    ),
    Invariant(
        "launch list",
        "every launch that a stage lists is there, and the other way round",
        "listed again",
        _S,
        launches.listed,
        launches.listed_again,
    ),
    Invariant(
        "launch ended",
        "no launch runs for a stage that does not",
        "ended as failed",
        _S,
        launches.ended,
        launches.ended_again,
    ),
    Invariant(
        "workflow state",
        "a workflow is in the state that FireWorks computes from its stages",
        "computed again",
        _W,
        workflows.state,
        workflows.state_again,
    ),
    Invariant(
        "lock",
        "no killed lpad command has left a workflow locked",
        "unlocked",
        _W,
        workflows.lock,
        workflows.unlock,
    ),
    Invariant(
        "strangers",
        "nothing runs here that is not qfarm's",
        "failed; see who writes to this database besides qfarm",
        "other fireworks",
    ),
    Invariant(
        "lost attempt",
        "every attempt belongs to a stage",
        "submit the fragment again: it is taken up; --repair puts it into lost_found",
        "attempts",
    ),
    Invariant(
        "lost record",
        "every record belongs to a stage",
        "submit the fragment again: it is taken up; --repair puts it into lost_found",
        "records",
    ),
    Invariant(
        "lost launch",
        "every launch belongs to a stage",
        "put into lost_found",
        "launches",
    ),
    Invariant(
        "lost fragment",
        "every fragment has a workflow",
        "submit it again to compute it; --repair puts it into lost_found",
        "fragments",
    ),
    Invariant(
        "array there",
        "every large array that a record keeps outside is in the store",
        _BACKUP,
        "records with arrays",
    ),
    Invariant(
        "counters",
        "FireWorks' counters give no id that is in use",
        "set above all that is in use",
        "counters",
    ),
    Invariant(
        "unique",
        "unique indexes keep two from submitting or committing the same",
        "made; or by an administrator: `qfarm roles apply`",
        "indexes",
    ),
    Invariant(
        "intact fragment",
        "every fragment is, bit for bit, what was submitted",
        _BACKUP,
        "opened fragments",
    ),
    Invariant(
        "intact stage",
        "every stored stage is what was submitted",
        _BACKUP,
        "opened stages",
    ),
    Invariant(
        "intact entry",
        "every workflow's name follows from its fragment and stages",
        "cannot be repaired, and is never run: cancel it and submit the fragment again",
        "opened entries",
    ),
    Invariant(
        "intact attempt",
        "every attempt can be read",
        _BACKUP,
        "opened attempts",
    ),
    Invariant(
        "intact record",
        "every record can be read, with its large arrays",
        _BACKUP,
        "opened records",
    ),
)
"""In the order in which they are cured: a later one relies on the earlier ones."""

IN_WORKFLOWS: Final = tuple(item for item in INVARIANTS if item.find is not None)
BY_NAME: Final = {item.name: item for item in INVARIANTS}
