"""Index: the documents of a backup by workflow, in a temporary database on disk.

A backup holds one stream for each collection; what belongs to one workflow is spread over four of
them. SQLite sorts it in a file without a name, which the system removes with the process, so
memory stays the same for a farm of any size.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple, Self

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from qfarm.store.arrays import ARRAYS
from qfarm.store.backup.archive import Backup, Report, Saved, Step
from qfarm.store.backup.trust import BackupError
from qfarm.store.connection import Document
from qfarm.store.contents import FRAGMENTS, STAGES
from qfarm.store.entry import workflow_of
from qfarm.store.histories import ATTEMPTS, RECORDS

FIREWORKS: Final = "fireworks"

_KINDS: Final = (FIREWORKS, ATTEMPTS, RECORDS)  # by workflow; fireworks first, as they name these
_CONTENTS: Final = (FRAGMENTS, STAGES, ARRAYS)  # by their own ids
_MANY: Final = 2000  # documents that are sorted in at once
_WORKFLOWS: Final = 500
_BYTES: Final = 8 * 2**20
_AWARE: Final = CodecOptions[Document](tz_aware=True)

_TABLES: Final = """
pragma cache_size = -65536;
create table workflows (number integer primary key, key text not null unique);
create table parts (workflow integer not null, kind integer not null, body blob not null);
create table contents (id text not null, kind integer not null, body blob not null);
"""
_ADD_WORKFLOW: Final = "insert or ignore into workflows (key) values (?1)"
_ADD_PART: Final = "insert into parts select number, ?2, ?3 from workflows where key = ?1"
_ADD_CONTENT: Final = "insert into contents values (?1, ?2, ?3)"
_SORT: Final = """
create index parts_of on parts (workflow);
create index contents_of on contents (id);
"""
_READ: Final = """
select workflows.number, key, kind, body from workflows
join parts on parts.workflow = workflows.number order by workflows.number
"""
_READ_CONTENT: Final = "select body from contents where id = ? and kind = ? order by rowid limit 1"

Key = Callable[[RawBSONDocument], object]


class Parts(NamedTuple):
    """All that a backup holds of one workflow, as it stands there."""

    key: str
    fireworks: Sequence[Document]
    attempts: Sequence[Document]
    records: Sequence[Document]


class Index:
    """The documents of one backup.

    Attributes
    ----------
    workflows : int
        How many there are.
    foreign : int
        Queue entries that name no workflow of qfarm.
    """

    def __init__(self) -> None:
        self.workflows = 0
        self.foreign = 0
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def fill(self, backup: Backup, report: Report) -> None:
        """Read a backup.

        Raises
        ------
        BackupError
            It is not what its manifest says, or the disk is full.
        """
        saved = {item.name: item for item in backup.manifest.collections}
        with _explained():
            self._db.execute("begin")
            for name in filter(saved.__contains__, (*_KINDS, *_CONTENTS)):
                self._read(backup, saved[name], report)
            self._db.executescript(_SORT)
            self.workflows = self._db.execute("select count(*) from workflows").fetchone()[0]

    def batches(self) -> Iterator[list[Parts]]:
        """Workflows in order of submission, some hundred at once; fewer when they are large."""
        with _explained():
            rows = self._db.execute(_READ)
            batch: list[Parts] = []
            size = 0
            for _, group in groupby(rows, key=itemgetter(0)):
                found = list(group)
                batch.append(_parts(found))
                size += sum(len(body) for *_, body in found)
                if size >= _BYTES or len(batch) >= _WORKFLOWS:
                    yield batch
                    batch, size = [], 0
            if batch:
                yield batch

    def content(self, collection: str, identity: str) -> Document | None:
        """A fragment, a stage, or a piece of an array."""
        with _explained():
            query = (identity, _CONTENTS.index(collection))
            row = self._db.execute(_READ_CONTENT, query).fetchone()
            return None if row is None else _decoded(row[0])

    def _read(self, backup: Backup, saved: Saved, report: Report) -> None:
        for number, batch in enumerate(_batches(backup.documents(saved))):
            report(Step(f"reading {saved.name}", number * _MANY, saved.documents))
            self._sort_in(saved.name, batch)
        report(Step(f"reading {saved.name}", saved.documents, saved.documents))

    def _sort_in(self, name: str, batch: Iterable[bytes]) -> None:
        if name in _CONTENTS:
            kind = _CONTENTS.index(name)
            self._db.executemany(_ADD_CONTENT, _rows(batch, kind, itemgetter("_id")))
        elif name == FIREWORKS:
            rows = list(_rows(batch, 0, lambda document: workflow_of(document.get("spec"))))
            self._db.executemany(_ADD_WORKFLOW, [row[:1] for row in rows])
            self._db.executemany(_ADD_PART, rows)
            self.foreign += sum(1 for _ in batch) - len(rows)
        else:
            self._db.executemany(_ADD_PART, _rows(batch, _KINDS.index(name), _workflow_of_stage))


def _rows(batch: Iterable[bytes], kind: int, key: Key) -> Iterator[tuple[str, int, bytes]]:
    """Documents with what they are found by; those that name nothing are left out."""
    for body in batch:
        found = key(RawBSONDocument(body))
        if isinstance(found, str):
            yield found, kind, body


def _workflow_of_stage(document: RawBSONDocument) -> str | None:
    key = document.get("key")
    return key.partition(".")[0] if isinstance(key, str) else None


def _parts(rows: Sequence[tuple[int, str, int, bytes]]) -> Parts:
    found: tuple[list[Document], ...] = ([], [], [])
    for _, _, kind, body in rows:
        found[kind].append(_decoded(body))
    return Parts(rows[0][1], *found)


def _decoded(body: bytes) -> Document:
    return dict(bson.decode(body, _AWARE))


def _batches(documents: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _MANY:
            yield batch
            batch = []
    yield batch


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what SQLite and BSON say into what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise BackupError(
            f"the backup's documents cannot be sorted on the disk: {error}",
            "Free some space where temporary files go, or set TMPDIR to a folder that has as much "
            "as `qfarm backup --check FILE` shows in megabytes; then run this again.",
        ) from error
    except (BSONError, RecursionError) as error:
        raise BackupError(
            f"the backup holds what is no document of MongoDB: {error}",
            "qfarm did not write it so: use another backup.",
        ) from error
