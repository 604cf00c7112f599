"""The Firetask: found by its explicit path, refusing to run under a stock rocket."""

import pytest
from fireworks.utilities.fw_serializers import load_object

from qfarm.plan import stage_key, workflow_key
from qfarm.store import entry
from qfarm_workers.firetask import RunStage
from support import build


def spec() -> dict[str, object]:
    stage = build.stage()
    workflow = workflow_key(build.WATER, (stage,))
    ours = entry.Entry(
        key=stage_key(workflow, stage.name),
        workflow=workflow,
        fragment_id=build.WATER.id,
        stage_ids=(stage.id,),
        position=0,
        stage=stage.name,
        level_id=stage.level.id,
        fragment_class="dimer",
        tags=(),
        source="",
        formula="H2O",
        n_atoms=3,
    )
    return {"_tasks": entry.TASKS, "qfarm": ours.model_dump(), "_fw_env": {}}


def test_fireworks_finds_it_by_the_path_in_the_database() -> None:
    loaded = load_object(dict(entry.TASKS[0]))
    assert type(loaded) is RunStage
    assert loaded.to_dict() == {"_fw_name": "{{qfarm_workers.firetask.RunStage}}"}


def test_a_rocket_is_told_what_to_do_instead() -> None:
    with pytest.raises(RuntimeError, match=r"stage w[0-9a-f]{64}\.single_point cannot.*qfarm run"):
        RunStage().run_task(spec())


@pytest.mark.parametrize("change", [{"qfarm": None}, {"_tasks": [{"_fw_name": "ScriptTask"}]}])
def test_a_foreign_spec_is_named_so(change: dict[str, object]) -> None:
    with pytest.raises(RuntimeError, match="this is no stage of qfarm: "):
        RunStage().run_task(spec() | change)
