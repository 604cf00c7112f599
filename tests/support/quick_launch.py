"""A launcher with the engines for tests, which looks around more often than launchers do.

What its jobs run is the variable ``JOB_MODULE``.
"""

import os
import sys
from datetime import timedelta

from qfarm.cli.launch import Options, run
from qfarm.errors import UserError
from qfarm_launchers import daemon, reconcile, roster
from support.steps import look_up

if __name__ == "__main__":
    vars(daemon).update(REAP_SECONDS=0.5, NODES_SECONDS=1.0)
    vars(roster).update(QUEUE_SECONDS=0.3)
    vars(reconcile).update(LINGERS=timedelta(seconds=1.5))
    words = sys.argv[1:]
    module = os.environ.get("JOB_MODULE", "support.quick_job")
    names = tuple(word for word in words if word != "--until-done")
    try:
        code = run(Options(names, "--until-done" in words, False, look_up, module, 0.3))
    except UserError as error:
        sys.exit(f"error: {error}")
    sys.exit(code)
