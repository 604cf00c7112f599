"""A batch job whose tblite sleeps: see `support.napping`."""

import sys

from qfarm_workers import job
from support.napping import look_up

if __name__ == "__main__":
    sys.exit(job.main(engines=look_up))
