"""A launcher whose jobs know the engines for tests; started as a process."""

import sys

from qfarm.cli.launch import Options, run
from support import launch_job

if __name__ == "__main__":
    names = tuple(sys.argv[1:])
    run(Options(names, engines=launch_job.look_up, module=launch_job.__name__))
