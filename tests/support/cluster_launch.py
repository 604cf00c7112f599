"""A launcher for the end-to-end tests, started as a process: its jobs have a node that fails."""

import sys

from qfarm.cli.launch import Options, run

if __name__ == "__main__":
    run(Options(tuple(sys.argv[1:]), module="support.cluster_job"))
