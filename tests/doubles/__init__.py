"""Test doubles: small executables that stand for FHI-aims and DFTB+ at the level of processes."""
