"""``qfarm retry``: make failed or cancelled stages ready again, with fresh budgets."""

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
from qfarm.cli.wording import counted, working
from qfarm.store.protocol import StageState, Store

STATES: Final = frozenset({StageState.FAILED, StageState.CANCELLED})


def command(
    ids: Ids = None,
    *,
    all_failed: Annotated[
        bool, typer.Option("--all-failed", help="Every fragment with a failed stage.")
    ] = False,
    fragment_class: ClassOption = None,
    tag: TagOption = None,
    stage: StageOption = None,
    yes: YesOption = False,
) -> None:
    """Make failed or cancelled stages ready again, with fresh budgets.

    The attempts made so far stay on record. Exit code 1 when there is nothing to retry.
    """
    choice = Choice(tuple(ids or ()), fragment_class, tag, stage, all_failed)
    refuse_empty(choice, "retry", "--all-failed")
    with open_farm() as (farm, store):
        retry(store, choice, yes, working(farm.config.partitions))


def retry(store: Store, choice: Choice, yes: bool, work: str) -> None:
    """Ask, then retry; `work` is the command that computes what waits."""
    state = StageState.FAILED if choice.everything else None
    selection = choice.selection(store, state)
    states = STATES if state is None else frozenset({state})
    hit = affected(store, selection, states, "retry")
    if not confirm(f"Retry {hit}?", yes):
        stderr().print("Nothing was changed.")
        return
    changed = store.retry(selection)
    stderr().print(f"{counted(changed, 'stage')} will be tried again. Next: {work}")
