"""JSON Schemas of what leaves qfarm: ``python -m qfarm_schemas.json_schema FOLDER`` writes them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from qfarm_schemas.attempt import Attempt
from qfarm_schemas.base import Model
from qfarm_schemas.config import FarmConfig, Protocol, Stage
from qfarm_schemas.fragment import Fragment
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Record

MODELS: Mapping[str, type[Model]] = MappingProxyType(
    {
        "attempt": Attempt,
        "farm_config": FarmConfig,
        "fragment": Fragment,
        "level_of_theory": LevelOfTheory,
        "protocol": Protocol,
        "record": Record,
        "stage": Stage,
    }
)


def documents() -> dict[str, str]:
    """File name -> JSON Schema text of each model."""
    return {f"{name}.schema.json": _text(model) for name, model in MODELS.items()}


def write(folder: Path) -> None:
    """Write every document to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text)


def _text(model: type[Model]) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | model.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
