"""Farms for tests of launchers on real schedulers: engines for tests, plans added as they are."""

from pathlib import Path

from qfarm.store.protocol import StageState
from qfarm_schemas.attempt import Attempt, Failure
from support.clusters import LAUNCHER, LaunchedFarm

START = (*LAUNCHER[:-1], "support.launch_here")
"""A launcher whose jobs know the engines for tests."""

HEAD = """\
keep_scratch = "never"
[mongo]
uri_file = "mongo.uri"
database = "{database}"
"""


def write_farm(root: Path, uri: str, database: str, partitions: str) -> None:
    """Write ``qfarm.toml`` and the file with MongoDB's address."""
    (root / "qfarm.toml").write_text(HEAD.format(database=database) + partitions)
    address = root / "mongo.uri"
    address.touch(0o600)
    address.write_text(uri)


def attempts(farm: LaunchedFarm, fragment_id: str, stage: str = "single_point") -> list[Attempt]:
    """Attempts at a stage of a fragment, in order."""
    made = farm.store.view(fragment_id).attempts.values()
    return [one for group in made for one in group if one.stage == stage]


def endings(made: list[Attempt]) -> list[str]:
    """How attempts ended: the kind of the failure, or ``success``."""
    return [
        one.outcome.kind.value if isinstance(one.outcome, Failure) else "success" for one in made
    ]


def all_done(farm: LaunchedFarm) -> bool:
    """Whether every stage is done."""
    return {count.state for count in farm.store.counts() if count.count} == {StageState.DONE}
