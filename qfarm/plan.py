"""Plan: which stages, at which level of theory, a fragment goes through. Pure."""

from typing import NamedTuple

from qfarm_schemas.base import canonical_json, digest
from qfarm_schemas.config import Protocol, Stage, StageTemplate
from qfarm_schemas.elements import symbols
from qfarm_schemas.fragment import Fragment


class Plan(NamedTuple):
    """A fragment with its stages, in order; `key` names the workflow."""

    key: str
    fragment: Fragment
    stages: tuple[Stage, ...]


class NoLevel(NamedTuple):
    """No rule of stage `stage` covers the fragment; without a stage, every one skips it."""

    stage: str
    fragment_class: str
    n_atoms: int
    elements: tuple[str, ...]

    def __str__(self) -> str:
        of = (
            f"class {self.fragment_class!r} with {self.n_atoms} atoms of {', '.join(self.elements)}"
        )
        if not self.stage:
            return f"every stage of the protocol leaves out {of}"
        return f"no level of theory for {of} in stage {self.stage!r} of the protocol"


def plan(fragment: Fragment, protocol: Protocol) -> Plan | NoLevel:
    """Give a fragment the stages of a protocol.

    Returns
    -------
    Plan or NoLevel
        NoLevel when a stage has no rule for the fragment's class and size.
    """
    elements = symbols(fragment)
    stages: list[Stage] = []
    for template in protocol.stages:
        place = _rule_for(fragment, elements, template)
        if place is None:
            return _no_level(template.name, fragment, elements)
        stage = template.stages[place]
        if stage is not None:
            stages.append(stage)
    if not stages:
        return _no_level("", fragment, elements)
    return Plan(workflow_key(fragment, tuple(stages)), fragment, tuple(stages))


def workflow_key(fragment: Fragment, stages: tuple[Stage, ...]) -> str:
    """``w`` and a SHA-256 over the fragment and what decides the numbers of its stages.

    Limits, budgets and partitions do not count, so a protocol with a longer time limit meets
    the same workflows, while another level of theory or force criterion makes new ones.
    """
    chain = [_science(stage) for stage in stages]
    return digest("w", canonical_json([fragment.id, chain]))


def stage_key(workflow: str, stage: str) -> str:
    """Name of one stage of one workflow: unique in the store."""
    return f"{workflow}.{stage}"


def _science(stage: Stage) -> list[str | float]:
    optimisation = stage.max_force if stage.task == "optimisation" else 0.0
    return [stage.name, stage.task.value, stage.level.id, optimisation]


def _rule_for(fragment: Fragment, elements: frozenset[str], template: StageTemplate) -> int | None:
    """Place of the first rule that matches."""
    asked = fragment.fragment_class, fragment.n_atoms, elements
    return next((n for n, rule in enumerate(template.levels) if rule.matches(*asked)), None)


def _no_level(stage: str, fragment: Fragment, elements: frozenset[str]) -> NoLevel:
    return NoLevel(stage, fragment.fragment_class, fragment.n_atoms, tuple(sorted(elements)))
