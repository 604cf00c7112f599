"""How the doctor's findings reach the user: a table, the cures below it, or JSON."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from qfarm.cli.doctor.finding import Finding, Verdict
from qfarm.cli.table import table
from qfarm.cli.wording import counted

_STYLES: Final = {
    Verdict.FAULT: "bold red",
    Verdict.WARNING: "bold yellow",
    Verdict.NOT_SET_UP: "bold",
}

_INDENT: Final = 2


def show(findings: Sequence[Finding], console: Console) -> None:
    """Print for people: the table, then what to do, faults first."""
    rows = ((one.check, one.found, one.verdict.value) for one in findings)
    console.print(table(("check", "found", "verdict"), rows))
    for verdict in (Verdict.FAULT, Verdict.WARNING, Verdict.NOT_SET_UP):
        for finding in findings:
            if finding.verdict is verdict:
                _explain(finding, console)
    console.print(summary(findings))


def summary(findings: Sequence[Finding]) -> str:
    """One line at the end."""
    faults = sum(one.verdict is Verdict.FAULT for one in findings)
    warnings = sum(one.verdict is Verdict.WARNING for one in findings)
    if faults:
        return f"{counted(faults, 'fault')}: work that needs it will fail until it is cured."
    return "No fault." if not warnings else f"No fault, {counted(warnings, 'warning')}."


def as_dict(findings: Sequence[Finding]) -> dict[str, Any]:
    """Plain values for scripts."""
    return {
        "ok": not any(one.verdict is Verdict.FAULT for one in findings),
        "checks": [{**vars(one), "verdict": one.verdict.value.lower()} for one in findings],
    }


def _explain(finding: Finding, console: Console) -> None:
    style = _STYLES[finding.verdict]
    heading = Text(f"{finding.verdict.value}: {finding.check}: ", style=style)
    console.print(heading + Text(finding.what), soft_wrap=True)
    for line in finding.cure.splitlines():
        console.print(Padding(Text(line), (0, 0, 0, _INDENT), expand=False), soft_wrap=True)
    console.print()
