"""How large records are, and the database of 100,000 fragments.

Run ``OMP_NUM_THREADS=1 PYTHONPATH=$PWD/tests python tests/bench/sizes.py [FRAGMENTS]``; it starts a
private MongoDB and ends it. First come records of a water dimer, 30 and 402 atoms, without and with
matrices (Fock and overlap, def2-SVP; for 402 atoms Fock alone, which is more than the PySCF engine
hands over), as BSON and on disk; then the database of so many two-stage fragments of 30 atoms
(20,000 unless told), all done, after a checkpoint, SCALED to 100,000. Numbers are noise, which
nothing compresses: real overlap matrices take somewhat less.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import bson
import numpy as np
from pymongo import MongoClient
from pymongo.database import Database

from qfarm.ladder import Done
from qfarm.store import arrays, histories, open_store, server
from qfarm.store.codec import encode
from qfarm.store.connection import Connection
from qfarm.store.protocol import Claim, Ended
from qfarm_schemas.attempt import Cost
from qfarm_schemas.check import Check
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.record import Record
from qfarm_schemas.result import OptimisationStep, Result, ScfIteration
from support import records
from support.build import NOW
from support.matrices import with_matrices
from support.work import LEASE, attempt_of, plan_of, record_of, worker

SCALE = 100_000
AT_ONCE = 50  # claims
COPIES = 40  # records of a kind; collections are written in blocks
CHECKPOINT = {"fsync": 1}
KINDS = (
    ("water dimer", 6, 48, ("fock", "overlap")),
    ("30 atoms", 30, 310, ("fock", "overlap")),
    ("402 atoms", 402, 3_700, ("fock",)),
)
"""Name, atoms, basis functions, matrices."""

CHECKS = tuple(
    Check(
        name=f"SCF threshold number {n}", required="<= 1e-05 eV", found="3.27e-07 eV", passed=True
    )
    for n in range(14)
)


def trace(number: int) -> tuple[ScfIteration, ...]:
    """Fourteen SCF iterations whose digits differ from record to record."""
    noise = np.random.default_rng(number).random((14, 5))
    shrink = 0.1 ** np.arange(14)[:, None]
    return tuple(
        ScfIteration(
            energy=-2077 + row[0],
            energy_change=row[1],
            eigenvalue_change=row[2],
            density_change=row[3],
            orbital_gradient=row[4],
        )
        for row in (noise * shrink).tolist()
    )


def steps(number: int) -> tuple[OptimisationStep, ...]:
    """Forty steps of an optimisation."""
    noise = np.random.default_rng(number).random((40, 2)).tolist()
    return tuple(OptimisationStep(energy=-2077 - e, max_force=f) for e, f in noise)


def real_looking(number: int, n_atoms: int) -> Result:
    """A result with all that a real one of PySCF has."""
    return records.result(
        number, n_atoms, scf_trace=trace(number), stable=True, notes=("n" * 75, "m" * 64)
    )


def record(number: int, n_atoms: int, n_basis: int, names: Sequence[str]) -> Record:
    """A record, with matrices unless there are no names."""
    plain = records.record(number, n_atoms, result=real_looking(number, n_atoms))
    if not names:
        return plain
    unwanted = dict.fromkeys({"fock", "overlap"} - set(names))
    return with_matrices(plain, n_basis, number, **unwanted)


def stored(database: Database[Any], name: str) -> tuple[float, float]:
    """Bytes of a collection and of its indexes on disk."""
    found = database.command("collStats", name)
    return found["storageSize"], found["totalIndexSize"]


def size_of_records(connection: Connection) -> None:
    """Insert records of each kind, and print what one takes."""
    print(f"{'record':42} {'BSON':>12} {'arrays':>12} {'on disk':>12}  bytes")
    for what, n_atoms, n_basis, names in KINDS:
        for given in ((), names):
            copies = COPIES if n_basis < 1_000 else 3
            inside, beside, on_disk = _one(connection, n_atoms, n_basis, given, copies)
            title = f"{what}, {n_basis} functions: {' + '.join(given)}" if given else what
            print(f"{title:42} {inside:12,.0f} {beside:12,.0f} {on_disk:12,.0f}", flush=True)


def _one(
    connection: Connection, n_atoms: int, n_basis: int, names: Sequence[str], copies: int
) -> tuple[float, float, float]:
    """Bytes of BSON, of arrays outside and of both on disk, for one record."""
    inside = beside = 0
    for name in ("records", "arrays"):
        connection[name].drop()
        connection.database.create_collection(name)
    for number in range(copies):
        document = encode(record(number, n_atoms, n_basis, names))
        document, blobs = arrays.outside(document | {"_id": f"w{number}"})
        arrays.save(connection, blobs)
        connection[histories.RECORDS].insert_one(document)
        inside += len(bson.encode(document))
        beside += sum(len(blob.data) for blob in blobs)
    connection.database.client.admin.command(CHECKPOINT)
    on_disk = sum(stored(connection.database, name)[0] for name in ("records", "arrays"))
    return inside / copies, beside / copies, on_disk / copies


def fragment(number: int, n_atoms: int = 30) -> Fragment:
    """A fragment of random atoms."""
    random = np.random.default_rng(number)
    return Fragment(
        numbers=random.choice([1, 6, 7, 8], n_atoms),
        positions=random.normal(scale=4, size=(n_atoms, 3)),
        fragment_class="dimer",
        tags=("des370k",),
        source=f"dimers.extxyz#{number}",
        charge=0,
    )


def ended(claim: Claim, number: int) -> Ended:
    """What a real attempt would commit."""
    found = real_looking(number, claim.start.n_atoms)
    moved = {"numbers": claim.start.numbers, "positions": claim.start.positions}
    first = claim.stage.name == "preopt"
    optimisation = {"optimisation_trace": steps(number)} if first else {}
    result = found.model_copy(update=moved | optimisation)
    cost = Cost(wall_seconds=12.345678, cpu_seconds=11.98765, peak_memory_mb=412.3)
    made = attempt_of(
        claim,
        checks=CHECKS,
        scf_trace=trace(number),
        cost=cost,
        finished=NOW + timedelta(days=3650, seconds=number + 0.123456),
        engine_version="PySCF 2.9.0, libxc 7.0.0",
        **optimisation,
    )
    record = record_of(claim).model_copy(update={"result": result})
    return Ended(claim, made, Done(), record)


def fill(uri: str, fragments: int) -> float:
    """Add fragments and finish both stages of each; seconds."""
    began = time.perf_counter()
    with open_store(uri, "farm") as store:
        for first in range(0, fragments, 1000):
            upto = min(first + 1000, fragments)
            store.add([plan_of(fragment(number)) for number in range(first, upto)])
        numbers = count()
        while claims := store.claim_many(worker(), LEASE, AT_ONCE):
            own = [claim for claim in claims if isinstance(claim, Claim)]
            assert all(store.commit_many([ended(claim, next(numbers)) for claim in own]))
    return time.perf_counter() - began


def size_of_farm(uri: str, fragments: int, seconds: float) -> None:
    """Print the collections of the farm, scaled."""
    factor = SCALE / fragments
    print(
        f"\n{fragments} fragments of 30 atoms, two stages each, all done ({seconds:.0f} s); "
        f"MB SCALED by {factor:g} to {SCALE}"
    )
    print(f"{'collection':16} {'documents':>10} {'BSON':>8} {'on disk':>8} {'indexes':>8}")
    with MongoClient[Any](uri) as client:
        client.admin.command(CHECKPOINT)
        farm, total = client["farm"], np.zeros(3)
        for name in sorted(farm.list_collection_names()):
            found = farm.command("collStats", name)
            sizes = np.array([found["size"], *stored(farm, name)]) * factor / 1e6
            total += sizes
            print(f"{name:16} {found['count'] * factor:10.0f}", *(f"{s:8.1f}" for s in sizes))
    print(f"{'together':16} {'':10}", *(f"{size:8.1f}" for size in total), flush=True)


def main(fragments: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "mongo"
        try:
            uri = server.up(home).uri
            connection = Connection.open(uri, "records")
            size_of_records(connection)
            connection.database.client.drop_database("records")
            connection.close()
            size_of_farm(uri, fragments, fill(uri, fragments))
        finally:
            server.down(home, timeout=20, force=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
