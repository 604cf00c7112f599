#!/usr/bin/env python3
"""Stands for FHI-aims in tests: reads control.in and geometry.in, prints an output of its format.

The numbers are made up (`doubles.physics`); the banner says that it is a test double.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from doubles import aims_run, player  # noqa: E402 - after the path

if __name__ == "__main__":
    here = Path.cwd()
    player.leave_with(player.perform("aims", aims_run.read(here), here))
