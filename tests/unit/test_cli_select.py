"""Selections: nothing is never everything, and nobody is asked where nobody can answer."""

import sys
from io import StringIO

import pytest

from qfarm.cli.select import Choice, confirm, described, refuse_empty
from qfarm.errors import InputError
from qfarm.store.protocol import StageState
from support.view import row


def test_an_empty_selection_is_refused() -> None:
    with pytest.raises(InputError, match="nothing is named to cancel") as raised:
        refuse_empty(Choice(), "cancel", "--all")
    assert "--all" in raised.value.remedy


@pytest.mark.parametrize(
    "choice",
    [
        Choice(("f1",)),
        Choice(fragment_class="ion"),
        Choice(tag="t"),
        Choice(stage="sp"),
        Choice(everything=True),
    ],
)
def test_anything_named_will_do(choice: Choice) -> None:
    refuse_empty(choice, "retry", "--all-failed")


def test_counts_in_words() -> None:
    rows = [
        row(state=StageState.FAILED),
        row(state=StageState.FAILED, fragment_id="f2"),
        row(state=StageState.CANCELLED, fragment_id="f2"),
    ]
    assert described(rows) == "2 failed and 1 cancelled stages of 2 fragments"
    assert described([]) == ""
    assert described(rows[:1]) == "1 failed stage of 1 fragment"


def test_without_a_terminal_yes_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    with pytest.raises(InputError) as raised:
        confirm("Cancel 3 stages?", yes=False)
    assert "--yes" in raised.value.remedy
    assert confirm("Cancel 3 stages?", yes=True)


@pytest.mark.parametrize(("answer", "expected"), [("y", True), ("n", False), ("", False)])
def test_at_a_terminal_the_answer_counts(
    monkeypatch: pytest.MonkeyPatch, answer: str, expected: bool
) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    assert confirm("Cancel 3 stages?", yes=False) is expected
