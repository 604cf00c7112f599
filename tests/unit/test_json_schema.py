"""The JSON Schemas in the repository are those of the models, and fit what the models write."""

import json
from pathlib import Path

import jsonschema
import pytest

from qfarm_schemas.config import FarmConfig
from qfarm_schemas.failure import FailureKind
from qfarm_schemas.json_schema import MODELS, documents, write
from qfarm_schemas.record import Provenance, Record
from support.build import NOW, PBE0, WATER, attempt, failure, result, stage

FOLDER = Path(__file__).parents[2] / "schemas" / "json"

RECORD = Record(
    key="w1.single_point",
    fragment_id=WATER.id,
    fragment_class="dimer",
    stage="single_point",
    level=PBE0,
    charge=0,
    multiplicity=1,
    result=result(),
    provenance=Provenance(
        attempt=1,
        rung=attempt().rung,
        host="node1",
        partition="local",
        qfarm_version="0",
        finished=NOW,
        cost=attempt().cost,
    ),
)

EXAMPLES = {
    "attempt": attempt(failure(FailureKind.CRASHED)),
    "farm_config": FarmConfig(),
    "fragment": WATER,
    "level_of_theory": PBE0,
    "record": RECORD,
    "stage": stage(),
}


def test_files_match_the_models() -> None:
    on_disk = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert on_disk == documents(), "run `make schemas`"


def test_write_gives_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "new")
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == documents()


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_model_writes_fits_its_schema(name) -> None:
    schema = json.loads(documents()[f"{name}.schema.json"])
    written = json.loads(EXAMPLES[name].model_dump_json())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(written)
    assert not validator.is_valid(written | {"no such field": 1})
    assert (
        MODELS[name].model_validate(written).model_dump_json() == EXAMPLES[name].model_dump_json()
    )
