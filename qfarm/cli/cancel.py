"""``qfarm cancel``: take stages out of the queue and stop running ones; results stay."""

from typing import Annotated, Final

import typer

from qfarm.cli.console import stderr
from qfarm.cli.farm import open_farm
from qfarm.cli.select import (
    Choice,
    ClassOption,
    Ids,
    StageOption,
    TagOption,
    YesOption,
    affected,
    confirm,
    refuse_empty,
)
from qfarm.cli.wording import counted
from qfarm.store.protocol import StageState, Store

STATES: Final = frozenset({StageState.WAITING, StageState.READY, StageState.RUNNING})


def command(
    ids: Ids = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Every fragment.")] = False,
    fragment_class: ClassOption = None,
    tag: TagOption = None,
    stage: StageOption = None,
    yes: YesOption = False,
) -> None:
    """Take waiting and ready stages out of the queue and stop running ones.

    Finished stages and their records stay. Exit code 1 when there is nothing to cancel.
    """
    choice = Choice(tuple(ids or ()), fragment_class, tag, stage, everything)
    refuse_empty(choice, "cancel", "--all")
    with open_farm() as (_, store):
        cancel(store, choice, yes)


def cancel(store: Store, choice: Choice, yes: bool) -> None:
    """Ask, then cancel."""
    selection = choice.selection(store)
    hit = affected(store, selection, STATES, "cancel")
    if not confirm(f"Cancel {hit}?", yes):
        stderr().print("Nothing was changed.")
        return
    changed = store.cancel(selection)
    stderr().print(f"{counted(changed, 'stage')} cancelled; `qfarm retry` brings them back.")
