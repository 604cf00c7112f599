"""Sink: a file that keeps its first write error until it is asked.

HDF5 cannot close a file that refuses to be written (a full disk, a quota): h5py then floods
stderr and the process dies of a segmentation fault. Through a sink HDF5 sees no error; the writer
asks after each record and stops.
"""

import io
from typing import Any


class Sink(io.FileIO):
    """A new file for reading and writing; after the first error nothing more is written."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error that a write met.

        Raises
        ------
        OSError
            Disk full, quota, file too large: as the system said.
        """
        if self._error is not None:
            raise self._error

    def write(self, data: Any, /) -> int:
        """Write all of `data`, or keep the error."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self._error is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self._error = error
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length, or keep the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = self._error or error
        return self.tell()
