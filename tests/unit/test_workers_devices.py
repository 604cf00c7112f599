"""Which GPUs of a job each of its slots sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfarm_workers.devices import visible


def shares(value: str | None, gpus: int, slots: int) -> list[str | None]:
    return [visible(value, gpus, slots, slot) for slot in range(slots)]


@pytest.mark.parametrize(
    ("value", "gpus", "slots", "expected"),
    [
        ("0,1", 2, 2, ["0", "1"]),
        ("2,3", 2, 1, ["2,3"]),
        ("0,1,2,3", 4, 2, ["0,1", "2,3"]),
        ("0,1,2", 3, 2, ["0,1", "2"]),
        ("1", 1, 3, ["1", "1", "1"]),
        ("0,1", 2, 3, ["0", "1", "0"]),
        (None, 2, 2, ["0", "1"]),
        (None, 1, 2, ["0", "0"]),
        ("GPU-8932f937, MIG-GPU-1/5/0", 2, 2, ["GPU-8932f937", "MIG-GPU-1/5/0"]),
        ("", 2, 2, ["", ""]),
        ("NoDevFiles", 1, 1, [""]),
        ("0,-1,1", 2, 2, ["0", "0"]),
        ("0,1", 0, 2, [None, None]),
        (None, 0, 1, [None]),
    ],
)
def test_slots_share_the_gpus_of_the_job(
    value: str | None, gpus: int, slots: int, expected: list[str | None]
) -> None:
    assert shares(value, gpus, slots) == expected


@given(
    names=st.lists(st.sampled_from(["0", "1", "7", "GPU-ab", "MIG-cd"]), min_size=1, unique=True),
    gpus=st.integers(1, 8),
    slots=st.integers(1, 9),
)
def test_every_gpu_is_used_and_none_invented(names: list[str], gpus: int, slots: int) -> None:
    given_out = [(share or "").split(",") for share in shares(",".join(names), gpus, slots)]
    flat = [name for share in given_out for name in share]
    assert set(flat) == set(names)
    assert all(len(set(share)) == len(share) for share in given_out)
    sizes = [len(share) for share in given_out]
    assert max(sizes) - min(sizes) <= 1
    users = [flat.count(name) for name in names]
    assert max(users) - min(users) <= 1
    if slots <= len(names):
        assert max(users) == 1
