"""`qfarm run` with the test engine: started as a process by the end-to-end tests."""

import sys

from qfarm.cli.run import Options, run
from support.engines import look_up

if __name__ == "__main__":
    sys.exit(run(Options(slots=int(sys.argv[1]), plain=True, engines=look_up)))
