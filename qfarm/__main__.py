"""`python -m qfarm` is ``qfarm``."""

from qfarm.cli import main

main()
