"""Merge: what another farm found out, from its backup, into this one.

A workflow that is not known here is added with all its history. One that is known is compared
stage by stage (`judge`): what is done here stays, what is done there alone is adopted. Each step is
a transaction over some hundred workflows and takes nothing for granted that it did not read in it,
so a merge may be cut off anywhere, and the same command goes on; workers may go on meanwhile.
"""

import gc
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final, NamedTuple

from pymongo.errors import PyMongoError

from qfarm.errors import StoreError
from qfarm.store import adding as submitting
from qfarm.store import indexes, version
from qfarm.store.arrays import ARRAYS
from qfarm.store.backup.archive import Backup, Report, Step, opened
from qfarm.store.backup.loading import saved_version
from qfarm.store.backup.trust import BackupError
from qfarm.store.connection import Connection, RefusedError
from qfarm.store.entry import Foreign
from qfarm.store.merge import adding, adopting, theirs
from qfarm.store.merge.adopting import Case
from qfarm.store.merge.index import Index, Parts
from qfarm.store.merge.judge import Kind
from qfarm.store.merge.source import Source
from qfarm.store.merge.summary import Apart, Merged, Tally
from qfarm.store.merge.target import Target
from qfarm.store.merge.theirs import Theirs
from qfarm.store.upkeep import LEASE, Upkeep, upkeep

__all__ = ["Apart", "Kind", "Merged", "merge"]

_OBJECTS: Final = 200_000  # new Python objects between two looks for cycles; some 20 MB
_AGAIN: Final = "What was merged so far stays; run the same `qfarm merge` again, it goes on."


class _Done(NamedTuple):
    """What became of a batch."""

    added: list[Theirs]
    cases: list[Case]
    left_over: list[str]
    lacked: int


def merge(
    uri: str,
    database: str,
    paths: Sequence[Path],
    dry_run: bool = False,
    report: Report = lambda _: None,
    lease: float = LEASE,
) -> tuple[Merged, ...]:
    """Verify backups of other farms, then merge one after another into a farm.

    Parameters
    ----------
    uri, database : str
        The farm; writing needs the role admin, looking any.
    paths : sequence of Path
        The backups. All are verified before anything is written.
    dry_run : bool
        Write nothing; each file is compared with the farm as it is.
    report : callable
        Told how far it is.
    lease : float
        Seconds after which others may follow when this process is killed.

    Raises
    ------
    BackupError
        A file is no backup, damaged, or of another version.
    StoreError
        There is no farm of this version, or another process restores, migrates or merges.
    """
    with ExitStack() as stack:
        backups = [(path, stack.enter_context(opened(path, report))) for path in paths]
        for path, backup in backups:
            _refuse_other_version(path, backup)
        connection = Connection.open(uri, database)
        stack.callback(connection.close)
        version.check(connection)
        lock = None if dry_run else stack.enter_context(_writing(connection, lease))
        return tuple(_merge(connection, lock, path, backup, report) for path, backup in backups)


@contextmanager
def _writing(connection: Connection, lease: float) -> Iterator[Upkeep]:
    """Hold the farm's lock, and see that what keeps workflows unique is there."""
    with upkeep(connection, "qfarm merge", lease) as lock:
        indexes.ensure(connection)
        yield lock


def _merge(
    connection: Connection, lock: Upkeep | None, path: Path, backup: Backup, report: Report
) -> Merged:
    tally, manifest, seen = Tally(), backup.manifest, 0
    with Index() as index, _explained(connection), _rare_collections():
        index.fill(backup, report)
        sizes = {saved.name: saved.size for saved in manifest.collections}
        moment = ".".join(map(str, manifest.cluster_time))
        name = theirs.printable(manifest.database)[:63]
        origin = f"merge:{name}:{moment}"
        target = Target(connection, Source(index, sizes.get(ARRAYS, 0)), lock, origin)
        for done in _work(target, index, tally):
            seen += tally.take(done.added, done.cases, done.left_over, done.lacked)
            report(Step("comparing" if lock is None else "merging", seen, index.workflows))
        return tally.merged(
            index.foreign,
            file=str(path),
            database=name,
            taken=manifest.taken,
            dry_run=lock is None,
        )


def _work(target: Target, index: Index, tally: Tally) -> Iterator[_Done]:
    """Read and check a batch while the one before it is written."""
    with ThreadPoolExecutor(1, "qfarm-merge") as writer:
        pending: Future[_Done] | None = None
        for batch in index.batches():
            found = list(_sound(batch, target.source, tally))
            if pending is not None:
                yield pending.result()
            pending = writer.submit(_settle, target, found)
        if pending is not None:
            yield pending.result()


def _sound(batch: Sequence[Parts], source: Source, tally: Tally) -> Iterator[Theirs]:
    for parts in batch:
        found = theirs.read(parts, source)
        if isinstance(found, Foreign):
            tally.unfit(parts.key, found.reason)
        else:
            yield found


def _settle(target: Target, batch: Sequence[Theirs]) -> _Done:
    """Add what is not known, compare and adopt what is."""
    there = submitting.known(target.connection, [found.plan.key for found in batch])
    unknown = [found for found in batch if found.plan.key not in there]
    over = adding.left_over(target, unknown)
    fresh = [found for found in unknown if found.plan.key not in over]
    if target.lock is None:
        known = [found for found in batch if found.plan.key in there]
        lack = adding.lacking(target, known)
        return _Done(fresh, adopting.survey(target, known), sorted(over), len(lack))
    added = adding.add(target, fresh)
    known = [found for found in batch if found.plan.key not in added | over]
    new = [found for found in fresh if found.plan.key in added]
    lack = adding.lacking(target, known)
    adding.put_back(target, lack)
    return _Done(new, adopting.adopt(target, known), sorted(over), len(lack))


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles of Python objects seldom: there are none in millions of documents.

    Otherwise a third of the time goes into that.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _refuse_other_version(path: Path, backup: Backup) -> None:
    """Refuse documents of another layout than this qfarm writes."""
    found = backup.manifest.schema_version
    saved_version(backup)
    if found == version.CURRENT:
        return
    what = (
        f"{path} was made by qfarm {backup.manifest.qfarm_version} and holds documents of version "
        f"{found}; this qfarm ({installed('qfarm')}) merges version {version.CURRENT}"
    )
    if found > version.CURRENT:
        raise BackupError(what, "Upgrade qfarm here (and `qfarm migrate`), then merge.")
    raise BackupError(
        what,
        f"Run `qfarm migrate` in that farm and back it up again. Or here: `qfarm restore {path} "
        "--database NAME`, `qfarm migrate` with that database in qfarm.toml, `qfarm backup`; then "
        "merge the new file.",
    )


@contextmanager
def _explained(connection: Connection) -> Iterator[None]:
    """Say what MongoDB refused, and how the merge goes on."""
    try:
        yield
    except (PyMongoError, RefusedError) as error:
        said = error.what if isinstance(error, RefusedError) else str(error)
        raise StoreError(
            f"MongoDB at {connection.where} refuses what the merge writes: {said[:300]}",
            f"See what its log says, and mend that. {_AGAIN}",
        ) from error
