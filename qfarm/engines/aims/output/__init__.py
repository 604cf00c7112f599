"""What an output of FHI-aims says: small pure functions over its lines.

Formats of versions 081213 to 2026. `page` indexes the lines, `run` finds beginning and end,
`echo` what the program was given, `scf` the iterations, `properties` the numbers, `aborts` what
its messages mean. `read` gathers all; what is missing or unreadable is None or too short, never
an exception.
"""

from qfarm.engines.aims.output.reading import Output, read

__all__ = ["Output", "read"]
