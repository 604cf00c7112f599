"""Devices: which GPUs of a job each of its slots sees (``CUDA_VISIBLE_DEVICES``). Pure."""

from typing import Final

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"

NONE: Final = ""
"""Value that hides every GPU from CUDA."""


def visible(environment_value: str | None, gpus: int, slots: int, slot: int) -> str | None:
    """Value of ``CUDA_VISIBLE_DEVICES`` for a slot.

    The scheduler has chosen the job's GPUs and named them in that variable, by index, UUID
    (``GPU-...``) or part of a GPU (``MIG-...``); the names are passed on as they are. Where it set
    nothing, the job has the first `gpus` of the machine. CUDA reads the list up to the first name
    that it does not know, such as -1, and so is it read here.

    Parameters
    ----------
    environment_value : str or None
        Value of the variable in the job; None: not set.
    gpus : int
        GPUs that the partition asks for, of one job on each of its nodes.
    slots : int
        Slots of the job.
    slot : int
        Which of them, from 0.

    Returns
    -------
    str or None
        With as many GPUs as slots or more, an equal share of them each, and the rest to the first
        slots; with fewer, one each in turn. Empty, which hides all: the scheduler gave the job
        none. None where the partition asks for no GPUs: then the variable is left alone. Engines
        that compute on GPUs are named in the configuration, and no other looks for them, so there
        is nothing to hide; and on a machine of one's own the user's value counts.
    """
    if gpus == 0:
        return None
    names = _names(environment_value, gpus)
    if not names:
        return NONE
    if slots > len(names):
        return names[slot % len(names)]
    share, rest = divmod(len(names), slots)
    begin = slot * share + min(slot, rest)
    return ",".join(names[begin : begin + share + (slot < rest)])


def _names(value: str | None, gpus: int) -> list[str]:
    if value is None:
        return [str(index) for index in range(gpus)]
    names: list[str] = []
    for name in map(str.strip, value.split(",")):
        if not name or name.startswith("-") or name == "NoDevFiles":
            break
        names.append(name)
    return names
