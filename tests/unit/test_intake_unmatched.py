"""What is said of a fragment that no rule of a protocol covers."""

import pytest

from qfarm import config
from qfarm.intake.unmatched import remedy
from qfarm.plan import NoLevel, plan
from qfarm_schemas.config import Protocol
from qfarm_schemas.fragment import Fragment
from support.build import PBE0


def missed(protocol: Protocol, named: str, numbers: list[int]) -> str:
    rows = [[3.0 * i, 0.0, 0.0] for i in range(len(numbers))]
    planned = plan(Fragment(numbers=numbers, positions=rows, fragment_class=named), protocol)
    assert isinstance(planned, NoLevel)
    return remedy(planned, protocol)


@pytest.fixture
def qcell() -> Protocol:
    return config.load_protocol("qcell")


@pytest.mark.parametrize("numbers", [[1, 1], [36, 36]])
def test_a_class_that_the_protocol_does_not_know(qcell: Protocol, numbers: list[int]) -> None:
    said = missed(qcell, "nucleic_acid", numbers)
    assert "Did you mean 'nucleic-acid'?" in said
    assert "carbohydrate, lipid, nucleic-acid, ion-water, dimer" in said
    assert "--class" in said
    assert "Did you mean" not in missed(qcell, "unclassified", numbers)


def test_an_element_is_named_and_no_other_class_is_proposed(qcell: Protocol) -> None:
    said = missed(qcell, "carbohydrate", [1, 36, 36, 1])
    assert "not for Kr." in said
    assert "--skip-invalid" in said
    assert "--class" not in said


def test_a_size_is_named() -> None:
    rules = [
        {"level": PBE0, "min_atoms": 3, "max_atoms": 9},
        {"level": PBE0, "min_atoms": 20, "classes": ["a"]},
    ]
    stages = [{"name": "one", "task": "single-point", "levels": rules}]
    said = missed(Protocol.model_validate({"name": "p", "stages": stages}), "a", [1, 1])
    assert "for 3-9, 20- atoms" in said


def test_every_stage_left_out() -> None:
    stages = [{"name": "one", "task": "single-point", "levels": [{"skip": True}]}]
    said = missed(Protocol.model_validate({"name": "p", "stages": stages}), "a", [1, 1])
    assert "--skip-invalid" in said
