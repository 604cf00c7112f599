#!/usr/bin/env python3
"""Plays a recorded run of a real program: ``replay_double.py FOLDER [SECONDS]``.

Prints the recorded standard output, in ten parts with SECONDS between them, copies the recorded
files, and ends as the recorded program did (``run.json``, else with exit code 0).
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from doubles import player, recording  # noqa: E402 - after the path

if __name__ == "__main__":
    recorded = recording.read(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
    player.leave_with(player.perform("replay", recorded, Path.cwd()))
