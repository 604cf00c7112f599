"""Family: the descendants of a process, found without a look at all other processes."""

from contextlib import suppress

import psutil

from qfarm_workers.children import children


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Descendants of a process, as far as they live; Linux only.

    psutil's own `children` reads the state of every process of the machine: 8 ms for 600 of them,
    four times a second in each worker, where this takes 0.02 ms.
    """
    found: list[psutil.Process] = []
    parents = [process.pid]
    while parents:
        for pid in children(parents.pop()):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
                parents.append(pid)
    return found
