"""The Firetask: how a stage stands in FireWorks' collections. Its path is a data contract.

FireWorks, `lpad` and its web page read the document; only qfarm's own pull loop runs it, because
leases, fencing and the ladder live in the store and a stock rocket knows none of them.
"""

from typing import Any, ClassVar, NoReturn

from fireworks.core.firework import FiretaskBase

from qfarm.store import entry


class RunStage(FiretaskBase):  # type: ignore[misc]  # fireworks carries no types
    """One stage of one fragment; everything about it stands in ``spec.qfarm``."""

    _fw_name = entry.RUN_STAGE
    required_params: ClassVar[list[str]] = []
    optional_params: ClassVar[list[str]] = []

    def run_task(self, fw_spec: dict[str, Any]) -> NoReturn:
        """Refuse: a stock FireWorks rocket must not run it.

        Raises
        ------
        RuntimeError
            Always, with what to do instead.
        """
        ours = {name: fw_spec.get(name) for name in ("_tasks", "qfarm")}  # a rocket adds others
        found = entry.read(ours)
        if isinstance(found, entry.Foreign):
            raise RuntimeError(f"this is no stage of qfarm: {found.reason}")
        raise RuntimeError(
            f"stage {found.key} cannot run under rlaunch or qlaunch: qfarm's workers claim "
            "stages themselves, with leases and a ladder of retries. Use `qfarm run`, after "
            "`qfarm retry` if a rocket has fizzled the stage."
        )
