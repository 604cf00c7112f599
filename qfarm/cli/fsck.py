"""``qfarm fsck``: proves that the farm's collections agree, and brings them back into step."""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.console import Console

from qfarm import config
from qfarm.cli.console import stderr, stdout
from qfarm.cli.table import fitted, table
from qfarm.cli.wording import SHORTEST_ID, counted
from qfarm.store.fsck import BY_NAME, INVARIANTS, Example, Options, Report, fsck

_REAPER: Final = 20.0
"""s: how often at least a reaper looks for lost runs."""

_LOCK: Final = 10.0
"""s: an lpad command holds its lock for milliseconds."""


def command(
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring back into step what can be; asks nothing.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open every document too: hashes, attempts, records.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.")] = False,
) -> None:
    """Check that nothing is lost, nothing is there twice, and all states agree.

    Workers may go on meanwhile. Without --repair nothing is changed, and the role dashboard
    suffices; --repair needs the role admin. Nothing is thrown away: what belongs to no stage is
    kept in the collection lost_found. Exit code 0: all is well, or was repaired; 1: it is not.
    """
    farm = config.load()
    uri, database = config.mongo_uri(farm), farm.config.mongo.database
    with stderr().status("fsck") as status:
        report = fsck(
            uri, database, _options(farm, repair, deep), lambda now: status.update(f"fsck: {now}")
        )
    if as_json:
        json.dump(report.as_dict() | {"repair": repair, "deep": deep}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show(report, repair, stdout())
    if report.left:
        raise typer.Exit(1)


def show(report: Report, repair: bool, console: Console) -> None:
    """Print for people."""
    console.print(_invariants(report))
    for name, tally in report.tallies.items():
        if tally.found:
            _violations(name, report, repair, console)
    for note in report.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    console.print(verdict(report, repair), markup=False, soft_wrap=True)


def verdict(report: Report, repair: bool) -> str:
    """One line: how it stands, and what the user does next."""
    if not report.found:
        return "The farm is whole."
    found = counted(report.found, "violation")
    if not report.left:
        return f"{found} repaired; the farm is whole. Next: qfarm status"
    if repair:
        return f"{report.left} of {found} are left, and need you: see above what to do."
    broken = [BY_NAME[name] for name, tally in report.tallies.items() if tally.found]
    if not any(item.curable for item in broken):
        return f"{found}, which --repair cannot mend: see above what to do."
    return f"{found}. Next: qfarm backup FILE, then qfarm fsck --repair"


def _options(farm: config.Farm, repair: bool, deep: bool) -> Options:
    """A lease that ended is the reaper's; it is given time to see that nobody lives."""
    lease = farm.config.lease
    watch = 2 * lease.heartbeat
    return Options(
        repair=repair,
        deep=deep,
        grace=lease.seconds + watch + _REAPER,
        patience=max(watch, _LOCK),
    )


def _invariants(report: Report) -> object:
    rows = []
    for item in INVARIANTS:
        if (tally := report.tallies.get(item.name)) is not None:
            state = "ok" if not tally.found else "repaired" if not tally.left else "BROKEN"
            checked = f"{tally.checked:,} {item.per}"
            rows.append(
                (state, item.name, item.means, checked, tally.found or "", tally.left or "")
            )
    return fitted(_HEADINGS, rows, drop=("invariant", "left"), below=("means",))


def _violations(name: str, report: Report, repair: bool, console: Console) -> None:
    item = next(item for item in INVARIANTS if item.name == name)
    tally = report.tallies[name]
    rows = [(_short(one.where), one.said, " ".join(_next(one))) for one in tally.examples]
    more = tally.found - len(rows)
    title = f"{name}: {counted(tally.found, 'violation')}"
    title += f" (and {more} more like these)" if more else ""
    console.print(table(("where", "what", "look"), rows, title))
    verb = "repair" if not repair or tally.left else "repaired"
    console.print(f"  {verb}: {item.cure}", markup=False, soft_wrap=True)


def _next(example: Example) -> Iterator[str]:
    unknown = f"fragment {example.fragment_id} is not in the store"
    if example.fragment_id and example.said != unknown:
        yield f"qfarm show {example.fragment_id[:SHORTEST_ID]}"


def _short(where: str) -> str:
    """A key with its hash cut as ids are elsewhere."""
    head, dot, tail = where.partition(".")
    return f"{head[:SHORTEST_ID]}{dot}{tail}" if len(head) > _HASH else where


_HASH: Final = 32
_HEADINGS: Final = ("", "invariant", "means", ">checked", ">violations", ">left")
