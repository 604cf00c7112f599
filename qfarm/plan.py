"""Plan: which stages, at which level of theory, a fragment goes through. Pure."""

from typing import NamedTuple

from qfarm_schemas.base import canonical_json, digest
from qfarm_schemas.config import LevelRule, Protocol, Stage, StageSettings, StageTemplate
from qfarm_schemas.fragment import Fragment


class Plan(NamedTuple):
    """A fragment with its stages, in order; `key` names the workflow."""

    key: str
    fragment: Fragment
    stages: tuple[Stage, ...]


class NoLevel(NamedTuple):
    """No rule of stage `stage` covers the fragment."""

    stage: str
    fragment_class: str
    n_atoms: int

    def __str__(self) -> str:
        return (
            f"no level of theory for class {self.fragment_class!r} with {self.n_atoms} atoms "
            f"in stage {self.stage!r} of the protocol"
        )


def plan(fragment: Fragment, protocol: Protocol) -> Plan | NoLevel:
    """Give a fragment the stages of a protocol.

    Returns
    -------
    Plan or NoLevel
        NoLevel when a stage has no rule for the fragment's class and size.
    """
    stages: list[Stage] = []
    for template in protocol.stages:
        rule = _rule_for(fragment, template)
        if rule is None:
            return NoLevel(template.name, fragment.fragment_class, fragment.n_atoms)
        stages.append(_stage(template, rule))
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


def _rule_for(fragment: Fragment, template: StageTemplate) -> LevelRule | None:
    matching = (
        rule for rule in template.levels if rule.matches(fragment.fragment_class, fragment.n_atoms)
    )
    return next(matching, None)


def _stage(template: StageTemplate, rule: LevelRule) -> Stage:
    shared = {name: getattr(template, name) for name in StageSettings.model_fields}
    return Stage(level=rule.level, **shared)
