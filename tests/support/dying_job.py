"""A batch job whose slots die as soon as they begin."""

import os
import sys
from importlib import import_module
from typing import NoReturn

from qfarm_workers import job, slot
from support.steps import look_up


def die(*_: object) -> NoReturn:
    os._exit(7)


if __name__ == "__main__":
    vars(job).update(TICK_SECONDS=0.05, LOOK_SECONDS=0.25)
    slot.run = import_module("support.dying_job").die  # slots find it under this name
    sys.exit(job.main(engines=look_up))
