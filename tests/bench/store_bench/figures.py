"""Figures: repeated measurements, their medians and ratios, and the report that they make."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Samples = Sequence[float]

WIDE = 72
"""Columns of the report that hold names."""


def interleaved(repeats: int, works: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Results of each work, done in turn so that a noisy moment strikes all of them."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(work())
    return found


def ratio(ours: Samples, theirs: Samples) -> float:
    """Median of the ratios of each round; of unequal numbers, the ratio of the medians."""
    if len(ours) == len(theirs):
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    return statistics.median(ours) / statistics.median(theirs)


def percentile(values: Samples, share: float) -> float:
    """Smallest of the values that so many of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def short(value: float) -> str:
    """Number with three significant digits or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


@dataclass
class Report:
    """The table, printed as it grows, and the goals, printed again at the end."""

    goals: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        """Print a line at once."""
        print(line, flush=True)

    def section(self, title: str) -> None:
        """Begin a part."""
        self.say(f"\n## {title}")

    def figure(self, name: str, values: Samples, unit: str, note: str = "") -> None:
        """Median, smallest and largest of repeated measurements."""
        middle = short(statistics.median(values))
        spread = f"{short(min(values))} to {short(max(values))}, n={len(values)}"
        once = len(values) == 1
        tail = "  ".join(part for part in ("" if once else f"({spread})", note) if part)
        self.say(f"{name:<{WIDE}}{middle:>10} {unit:<12}{tail}".rstrip())

    def fact(self, name: str, value: str) -> None:
        """Something that is not a repeated measurement."""
        self.say(f"{name:<{WIDE}}{value:>10}")

    def goal(self, name: str, found: float, wanted: float, at_most: bool = False) -> None:
        """Compare a ratio with what is asked for."""
        met = found <= wanted if at_most else found >= wanted
        sign = "<=" if at_most else ">="
        line = f"{name:<{WIDE}}{short(found):>10} {sign} {wanted:g}: {'MET' if met else 'MISSED'}"
        self.goals.append(line)
        self.say(line)

    def end(self) -> None:
        """All goals again."""
        self.section("goals")
        for line in self.goals or ["none was measured"]:
            self.say(line)
