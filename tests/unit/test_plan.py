"""Plan: the level of theory by class and size, and the identity of workflows."""

import numpy as np
import pytest

from qfarm.plan import NoLevel, Plan, plan, stage_key, workflow_key
from qfarm_schemas.config import LevelRule, Protocol
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import BasisTier

XTB = {"engine": "tblite", "method": "GFN2-xTB", "dispersion": "intrinsic"}
TIGHT = {
    "engine": "pyscf",
    "method": "PBE0",
    "dispersion": "mbd",
    "mbd_beta": 0.85,
    "basis": "tight",
}
INTERMEDIATE = TIGHT | {"basis": "intermediate"}


def protocol(**stage: object) -> Protocol:
    preopt = {"name": "preopt", "task": "optimisation", "levels": [{"level": XTB}]}
    point = {
        "name": "single_point",
        "task": "single-point",
        "levels": [
            {"classes": ["lipid", "ion"], "max_atoms": 350, "level": TIGHT},
            {"classes": ["lipid"], "min_atoms": 351, "level": INTERMEDIATE},
        ],
    }
    return Protocol(name="p", stages=(preopt | stage, point))


def chain(n_atoms: int, fragment_class: str = "lipid", charge: int = 0) -> Fragment:
    positions = np.arange(n_atoms)[:, None] * np.array([1.0, 0.0, 0.0])
    return Fragment(
        numbers=[1] * n_atoms, positions=positions, charge=charge, fragment_class=fragment_class
    )


def planned(fragment: Fragment, **stage: object) -> Plan:
    found = plan(fragment, protocol(**stage))
    assert isinstance(found, Plan)
    return found


def test_stages_keep_their_order_and_settings() -> None:
    stages = planned(chain(4), max_force=0.005, time_limit=60).stages
    assert [stage.name for stage in stages] == ["preopt", "single_point"]
    assert (stages[0].max_force, stages[0].time_limit) == (0.005, 60)


@pytest.mark.parametrize(("n_atoms", "tier"), [(350, BasisTier.TIGHT), (351, "intermediate")])
def test_size_chooses_the_level(n_atoms, tier) -> None:
    assert planned(chain(n_atoms)).stages[1].level.basis == tier


def test_no_rule_is_said_in_words() -> None:
    found = plan(chain(351, "ion"), protocol())
    assert found == NoLevel("single_point", "ion", 351, ("H",))
    assert "class 'ion' with 351 atoms of H" in str(found)


def test_elements_choose_the_level_or_leave_a_stage_out() -> None:
    levels = [{"elements": ["H", "O"], "level": XTB}, {"classes": ["lipid"], "skip": True}]
    assert [stage.name for stage in planned(chain(4), levels=levels).stages] == [
        "preopt",
        "single_point",
    ]
    helium = chain(4).model_copy(update={"numbers": [2, 2, 1, 1]})
    assert [stage.name for stage in planned(helium, levels=levels).stages] == ["single_point"]
    other = helium.model_copy(update={"fragment_class": "ion"})
    assert plan(other, protocol(levels=levels)) == NoLevel("preopt", "ion", 4, ("H", "He"))


def test_a_fragment_that_every_stage_leaves_out_is_not_taken() -> None:
    nothing = Protocol(
        name="p", stages=({"name": "a", "task": "single-point", "levels": [{"skip": True}]},)
    )
    found = plan(chain(4), nothing)
    assert isinstance(found, NoLevel)
    assert "leaves out class 'lipid' with 4 atoms of H" in str(found)


@pytest.mark.parametrize("rule", [{}, {"skip": True, "level": XTB}])
def test_a_rule_has_a_level_or_skips(rule) -> None:
    with pytest.raises(ValueError, match="either a level, or skip"):
        LevelRule(**rule)


def test_the_same_fragment_and_science_make_the_same_workflow() -> None:
    assert planned(chain(4)).key == planned(chain(4)).key
    assert planned(chain(4)).key == planned(chain(4), time_limit=60, partition="cpu").key
    policy = {"chemistry": 2}
    assert planned(chain(4)).key == planned(chain(4), policy=policy).key


def test_other_science_makes_another() -> None:
    keys = {
        planned(chain(4)).key,
        planned(chain(4, charge=2)).key,
        planned(chain(4), max_force=0.001).key,
        planned(chain(4), name="relax").key,
        planned(chain(4), levels=[{"level": XTB | {"method": "GFN1-xTB"}}]).key,
    }
    assert len(keys) == 5


def test_a_force_criterion_means_nothing_to_a_single_point() -> None:
    one, two = planned(chain(4)), planned(chain(4))
    stricter = two.stages[1].model_copy(update={"max_force": 1e-5})
    assert workflow_key(two.fragment, (two.stages[0], stricter)) == one.key


def test_stage_keys() -> None:
    assert stage_key("w1", "preopt") == "w1.preopt"
