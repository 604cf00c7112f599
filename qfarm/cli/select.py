"""Select: the options by which list, retry and cancel choose fragments."""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import typer

from qfarm.cli.wording import counted
from qfarm.errors import InputError, NotFoundError
from qfarm.store.protocol import Row, Selection, StageState, Store

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Fragment ids, or their beginnings.")
]
ClassOption = Annotated[
    str | None, typer.Option("--class", metavar="C", help="Only fragments of this class.")
]
TagOption = Annotated[
    str | None, typer.Option("--tag", metavar="T", help="Only fragments with this tag.")
]
StageOption = Annotated[
    str | None, typer.Option("--stage", metavar="S", help="Only the stage of this name.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class Choice:
    """What the user named; `everything` stands for --all or --all-failed."""

    ids: tuple[str, ...] = ()
    fragment_class: str | None = None
    tag: str | None = None
    stage: str | None = None
    everything: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was named."""
        named = (self.ids, self.fragment_class, self.tag, self.stage, self.everything)
        return not any(named)

    def selection(self, store: Store, state: StageState | None = None) -> Selection:
        """Return the selection, with ids completed.

        Raises
        ------
        NotFoundError
            An id's beginning fits none or several fragments.
        """
        return Selection(
            fragment_ids=tuple(dict.fromkeys(store.resolve(prefix) for prefix in self.ids)),
            state=state,
            fragment_class=self.fragment_class,
            tag=self.tag,
            stage=self.stage,
        )


def refuse_empty(choice: Choice, verb: str, all_option: str) -> None:
    """Raise InputError unless something is named."""
    if choice.empty:
        raise InputError(
            f"nothing is named to {verb}",
            f"Give fragment ids (see `qfarm list`), --class, --tag, --stage, or {all_option}.",
        )


def affected(store: Store, selection: Selection, states: frozenset[StageState], verb: str) -> str:
    """Say what a change would hit: ``3 failed and 1 cancelled stages of 2 fragments``.

    Raises
    ------
    NotFoundError
        No stage of the selection is in one of `states`.
    """
    in_stage = (row for row in store.rows(selection) if selection.stage in (None, row.stage))
    hit = described(row for row in in_stage if row.state in states)
    if not hit:
        listed = " or ".join(sorted(states))
        raise NotFoundError(
            f"there is nothing to {verb}: no stage of the selection is {listed}",
            "`qfarm list` shows what there is.",
        )
    return hit


def confirm(question: str, yes: bool) -> bool:
    """Ask on stderr; without a terminal only `yes` counts.

    Raises
    ------
    InputError
        Nobody can be asked.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody can answer here.", "Add --yes.")
    return typer.confirm(question, err=True)


def described(rows: Iterable[Row]) -> str:
    """Count stages by state, and their fragments, in words; empty for no rows."""
    states: Counter[StageState] = Counter()
    fragments: set[str] = set()
    for row in rows:
        states[row.state] += 1
        fragments.add(row.fragment_id)
    if not states:
        return ""
    noun = "stage" if states.total() == 1 else "stages"
    listed = " and ".join(f"{number:,} {state}" for state, number in states.items())
    return f"{listed} {noun} of {counted(len(fragments), 'fragment')}"
