"""`python -m qfarm_workers.job`, what job scripts run.

Its name keeps multiprocessing from running a job's module once more in each slot.
"""

import sys

from qfarm_workers.job import main

if __name__ == "__main__":
    sys.exit(main())
