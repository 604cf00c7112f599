#!/usr/bin/env python3
"""Stands for DFTB+ in tests: reads dftb_in.hsd, leaves the files and the output of its format.

The numbers are made up (`doubles.physics`); the banner says that it is a test double.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from doubles import dftbplus_run, player  # noqa: E402 - after the path

if __name__ == "__main__":
    here = Path.cwd()
    player.leave_with(player.perform("dftbplus", dftbplus_run.read(here), here))
