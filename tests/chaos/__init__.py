"""Chaos: storms of kills on a farm, a killer of single commands, and the checker that judges."""
