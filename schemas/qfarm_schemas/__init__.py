"""What crosses a process or file boundary in qfarm: pure, typed, unit-tagged values."""
