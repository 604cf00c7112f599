"""A batch job with the engines for tests, which looks around more often than jobs do."""

import sys

from qfarm_workers import job
from support.steps import look_up

if __name__ == "__main__":
    vars(job).update(TICK_SECONDS=0.05, LOOK_SECONDS=0.25, RELEARN_SECONDS=2.0)
    sys.exit(job.main(engines=look_up))
