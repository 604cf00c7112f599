"""Large arrays leave a document and come back to the last bit; packed matrices do, too."""

import hashlib
import json
from typing import Any

import bson
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from pydantic import TypeAdapter, ValidationError

from qfarm.store import arrays
from qfarm.store.arrays import CHUNK, LARGEST_INSIDE, USED, outside, references
from qfarm.store.codec import decode, encode
from qfarm_schemas.arrays import Matrix, pack, packed_size, unpack
from qfarm_schemas.matrices import Matrices, asked
from qfarm_schemas.record import Record
from support.matrices import matrices, symmetric, with_matrices
from support.records import record

ANY = st.floats(width=64)
MATRIX = TypeAdapter[Any](Matrix)


@given(st.integers(1, 7).flatmap(lambda n: np_arrays(np.float64, (n, n), elements=ANY)))
def test_packing_keeps_every_bit(array: Any) -> None:
    both = np.tril(array) + np.tril(array, -1).T
    for one in (array, both, np.stack([both, both])):
        form, data = pack(one)
        assert len(data) == packed_size(form, "<f8", one.shape)
        assert unpack(form, data, "<f8", one.shape).tobytes() == one.tobytes()


def test_a_symmetric_matrix_takes_half() -> None:
    assert len(pack(symmetric(100))[1]) == 8 * 5050
    assert len(pack(symmetric(100, 0, 2))[1]) == 2 * 8 * 5050
    almost = symmetric(3)
    almost[0, 1] = np.nextafter(almost[0, 1], np.inf)
    assert pack(almost)[0] == pack(np.array([[0.0, 0.0], [-0.0, 0.0]]))[0] == "full"


def test_only_large_arrays_leave_a_document() -> None:
    small = encode(record())
    assert outside(small) == (small, ())
    fits = np.zeros(LARGEST_INSIDE // 8)
    for size, count in ((fits.size, 0), (fits.size + 1, 1)):
        found = record().result.model_copy(update={"charges": {"mulliken": np.arange(float(size))}})
        document, blobs = outside(encode(found))
        assert len(blobs) == len(references(document)) == count


def test_what_leaves_is_named_by_its_hash() -> None:
    before = encode(with_matrices(record()))
    document, blobs = outside(before)
    assert before == encode(with_matrices(record()))
    assert len(bson.encode(document)) < 10_000 < len(bson.encode(before))
    assert [hashlib.sha256(blob.data).hexdigest() for blob in blobs] == [b.sha256 for b in blobs]
    assert document[USED] == sorted(blob.sha256 for blob in blobs)
    reference = document["result"]["matrices"]["fock"]
    assert reference == {
        "dtype": "<f8",
        "shape": [200, 200],
        "form": "lower",
        "sha256": blobs[0].sha256,
        "bytes": 8 * 200 * 201 // 2,
        "chunks": 1,
    }
    assert [found.path for found in references(document)] == [
        "result.matrices.fock",
        "result.matrices.overlap",
    ]


def test_equal_arrays_are_stored_once() -> None:
    one = symmetric(200)
    document, blobs = outside(encode(with_matrices(record(), fock=one, overlap=one)))
    assert len(blobs) == len(document[USED]) == 1
    assert len(references(document)) == 2


def test_a_very_large_array_takes_several_chunks() -> None:
    document, blobs = outside({"data": encode(matrices(1500, fock=None))})
    (found,) = references(document)
    assert found.chunks == len(found.ids) == -(-len(blobs[0].data) // CHUNK) == 3
    assert found.ids[2] == f"{blobs[0].sha256}:2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chunks": 10**9}, "bytes"),
        ({"shape": [200, 201]}, "bytes"),
        ({"form": "upper"}, "bytes"),
        ({"dtype": "f8,("}, "changed"),
        ({"bytes": "many"}, "changed"),
        ({"shape": 40_000}, "changed"),
    ],
)
def test_a_changed_reference_is_not_followed(change: dict[str, Any], said: str) -> None:
    document, _ = outside(encode(with_matrices(record())))
    document["result"]["matrices"]["fock"].update(change)
    with pytest.raises(arrays.UnreadableError, match=said):
        arrays.fill(None, document | {"_id": "w1.x"})  # type: ignore[arg-type]


def test_matrices_survive_json_and_bson() -> None:
    before = with_matrices(record(), 40, fock=symmetric(40, 0, 2))
    for back in (
        Record.model_validate_json(before.model_dump_json()),
        decode(Record, bson.decode(bson.encode(encode(before)))),
    ):
        found, given_ = back.result.matrices, before.result.matrices
        assert isinstance(found, Matrices)
        assert isinstance(given_, Matrices)
        assert found.functions.tolist() == given_.functions.tolist()
        assert found.functions.dtype == np.int32
        assert {name: m.tobytes() for name, m in found.given().items()} == {
            name: m.tobytes() for name, m in given_.given().items()
        }
        assert not found.given()["fock"].flags.writeable


def test_a_text_holds_a_triangle_in_base64() -> None:
    text = matrices(300, overlap=None).model_dump_json()
    assert len(text) < 300 * 301 // 2 * 8 * 4 / 3 + 8_000
    assert json.loads(text)["fock"]["form"] == "lower"


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 3)),
        np.zeros((3, 2, 2)),
        np.zeros((0, 0)),
        {"shape": [2, 2], "form": "full", "data": "AAAA"},
        {"shape": [2, 2], "form": "lower", "data": "no base64!"},
        {"shape": ["x", 2], "form": "full", "data": ""},
        {"form": "full"},
        {"shape": [], "form": "lower", "data": ""},
    ],
)
def test_what_is_no_matrix_is_refused(bad: Any) -> None:
    with pytest.raises(ValidationError):
        MATRIX.validate_python(bad)


def test_all_matrices_are_of_one_basis() -> None:
    with pytest.raises(ValidationError, match="4 basis functions, but fock 5"):
        matrices(4, fock=symmetric(5))


@pytest.mark.parametrize("bad", [3, "", "fock hessian", "all", 1.5])
def test_an_option_that_names_no_matrix_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="fock, overlap, density, core"):
        asked({"matrices": bad})
