"""A Firetask that does nothing, for rapidfire."""

from typing import Any

from fireworks import FiretaskBase, FWAction, explicit_serialize


@explicit_serialize
class NoOp(FiretaskBase):  # type: ignore[misc]
    """Nothing."""

    def run_task(self, _: Any) -> FWAction:
        return FWAction()
