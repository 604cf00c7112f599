"""What fsck says in the end: for each invariant how much was checked, found, cured and left."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from qfarm.store.fsck.model import Finding
from qfarm.store.fsck.table import INVARIANTS

EXAMPLES: Final = 3


class Example(NamedTuple):
    """One violation: of what, what is wrong, and the fragment that it concerns, if known."""

    where: str
    said: str
    fragment_id: str = ""


@dataclass
class Tally:
    """How one invariant fared."""

    checked: int = 0
    found: int = 0
    repaired: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Violations that are still there."""
        return self.found - self.repaired


@dataclass
class Report:
    """How a farm fared.

    Attributes
    ----------
    tallies : dict
        By name of the invariant; those of a check that was not asked for are left out.
    notes : list of str
        What is no violation, but worth to be known.
    """

    tallies: dict[str, Tally] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def found(self) -> int:
        """All violations."""
        return sum(tally.found for tally in self.tallies.values())

    @property
    def left(self) -> int:
        """Violations that are still there."""
        return sum(tally.left for tally in self.tallies.values())

    def checked(self, name: str, count: int) -> None:
        """Count what was looked at."""
        self.tallies.setdefault(name, Tally()).checked += count

    def note(self, findings: Iterable[Finding], repaired: bool, fragment_id: str = "") -> None:
        """Count violations."""
        for finding in findings:
            tally = self.tallies.setdefault(finding.name, Tally())
            tally.found += 1
            tally.repaired += repaired
            if len(tally.examples) < EXAMPLES:
                tally.examples.append(Example(finding.where, finding.said, fragment_id))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for scripts."""
        known = [item for item in INVARIANTS if item.name in self.tallies]
        return {
            "invariants": {
                item.name: {
                    "means": item.means,
                    "checked": (tally := self.tallies[item.name]).checked,
                    "per": item.per,
                    "found": tally.found,
                    "repaired": tally.repaired,
                    "left": tally.left,
                    "cure": item.cure,
                    "examples": [one._asdict() for one in tally.examples],
                }
                for item in known
            },
            "found": self.found,
            "left": self.left,
            "notes": self.notes,
        }
