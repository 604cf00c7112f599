"""HDF5: a data set in the manner of QM7-X, one group a record.

::

    /records/<class>/<fragment id>   a data set a number with attribute ``units``; attributes: texts
    /levels/<level id>               attributes: ``label``, ``json``
    /layout                          JSON: names, types, shapes, units, descriptions
    /missing                         JSON of each record that the selection asks for and lacks

A record of PBE0+MBD also answers to the names of QM7-X (hard links: no number is stored twice),
so a loader for QM7-X that loops over two levels of groups starts at ``file["records"]``. The
second record of one fragment in a class, from another workflow, is called
``<fragment id>-<8 digits of its workflow>``. Writing takes constant memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import h5py
import numpy as np

from qfarm.export import manifest
from qfarm.export.atomic import replacing
from qfarm.export.dataset import (
    ExportError,
    Options,
    Written,
    full_label,
    mixed_levels,
    qfarm_version,
    unfit,
)
from qfarm.export.manifest import Expected
from qfarm.export.sink import Sink
from qfarm_schemas.base import canonical_json
from qfarm_schemas.layout import (
    VERSION,
    LayoutError,
    Value,
    labels,
    layout_id,
    qm7x_names,
    rows,
    values,
)
from qfarm_schemas.level import LevelOfTheory
from qfarm_schemas.record import Record

FORMAT: Final = "qfarm-hdf5"
LIBVER: Final = ("v110", "v110")
"""Any HDF5 since 1.10 reads it, and equal content gives an equal file whatever HDF5 wrote it."""

BATCH: Final = 256  # rows of /missing written at once
TEXT: Final = h5py.string_dtype()

_Item = TypeVar("_Item")


def write(
    target: Path, records: Iterable[Record], expected: Iterable[Expected], options: Options
) -> Written:
    """Write a data set and its manifest.

    Parameters
    ----------
    target : Path
        The file; it appears whole or, on any failure, not at all.
    records : iterable of Record
        Read once, one at a time.
    expected : iterable of Expected
        Every record that the selection asks for; read after `records`. Those that did not come
        are listed as missing.
    options : Options
        What the user allowed.

    Raises
    ------
    ExportError
        The file exists, cannot be written, would be empty or mix levels of theory, or a record
        does not fit the layout.
    """
    _refuse(target, options)
    summary = Written(target, manifest.manifest_path(target))
    try:
        with replacing(summary.manifest) as listing, replacing(target) as part:
            with Sink(str(part)) as sink:
                with h5py.File(sink, "w", libver=LIBVER) as file:
                    content = _Content(file, summary, options)
                    content.fill(_while_sound(records, sink), _while_sound(expected, sink))
                    manifest.write(listing, content.finish(), content.missing())
                sink.check()
            return replace(summary, size=part.stat().st_size)
    except OSError as error:
        raise _unwritable(target, error) from error


def _while_sound(items: Iterable[_Item], sink: Sink) -> Iterator[_Item]:
    """Pass items on, but stop with the error as soon as the file cannot be written."""
    for item in items:
        sink.check()
        yield item


class _Content:
    """The open file and the summary that grows while it is filled."""

    def __init__(self, file: h5py.File, summary: Written, options: Options) -> None:
        self._file = file
        self._summary = summary
        self._options = options
        self._records = file.create_group("records")
        self._levels = file.create_group("levels")
        self._missing = file.create_dataset(
            "missing", shape=(0,), maxshape=(None,), chunks=(BATCH,), dtype=TEXT
        )

    def fill(self, records: Iterable[Record], expected: Iterable[Expected]) -> None:
        """Write the records, then the list of those that are missing."""
        for record in records:
            self._add(record)
        if not self._summary.records:
            raise _nothing(self._summary.target)
        self._list(item for item in expected if not self._holds(item))

    def finish(self) -> dict[str, Any]:
        """Write the layout and the attributes of the file; return the manifest's head."""
        attributes = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "qfarm_version": qfarm_version(),
            "layout": layout_id(),
        }
        totals = {
            "n_records": self._summary.records.total(),
            "n_missing": self._summary.missing.total(),
        }
        self._file.create_dataset("layout", data=canonical_json(rows()).decode(), dtype=TEXT)
        self._file.attrs.update({"format": FORMAT, "format_version": VERSION})
        self._file.attrs.update(attributes | totals)
        for group in self._records.values():
            group.attrs["n_records"] = len(group)
        return manifest.head(self._summary, attributes)

    def missing(self) -> Iterator[str]:
        """JSON of what is missing, as it stands in the file."""
        for start in range(0, len(self._missing), BATCH):
            yield from self._missing.asstr()[start : start + BATCH]

    def _add(self, record: Record) -> None:
        self._note_level(record.level)
        group = self._records.require_group(_group_name(record.fragment_class))
        try:
            checked = list(values(record))
        except LayoutError as error:
            raise unfit(record, error) from error
        _write_record(group.create_group(_free_name(group, record)), record, checked)
        self._summary.records[record.fragment_class] += 1

    def _note_level(self, level: LevelOfTheory) -> None:
        self._summary.levels[level.id] += 1
        if level.id in self._levels:
            return
        group = self._levels.create_group(level.id)
        group.attrs["label"] = full_label(level)
        group.attrs["json"] = canonical_json(level.model_dump(mode="json")).decode()
        if len(self._summary.levels) > 1 and not self._options.mixed_levels:
            counts = self._summary.levels.items()
            raise mixed_levels({self._levels[id_].attrs["label"]: n for id_, n in counts})

    def _holds(self, item: Expected) -> bool:
        group = self._records.get(_group_name(item.fragment_class), {})
        names = _names(item.fragment_id, item.key)
        return any(name in group and group[name].attrs["key"] == item.key for name in names)

    def _list(self, missing: Iterator[Expected]) -> None:
        while batch := list(islice(missing, BATCH)):
            start = len(self._missing)
            self._missing.resize((start + len(batch),))
            self._missing[start:] = [item.as_json() for item in batch]
            for item in batch:
                self._summary.missing[item.fragment_class] += 1
                self._summary.reasons[item.state] += 1


def _write_record(group: h5py.Group, record: Record, checked: Iterable[Value]) -> None:
    second_names = qm7x_names(record.level)
    for value in checked:
        dataset = group.create_dataset(value.name, data=value.array)
        dataset.attrs["units"] = value.unit
        if value.name in second_names:
            group[second_names[value.name]] = dataset
    for name, text in labels(record).items():
        group.attrs[name] = text if isinstance(text, str) else np.array(text, dtype=TEXT)


def _group_name(fragment_class: str) -> str:
    """The class as one component of a path; the true name is an attribute of each record."""
    name = fragment_class.replace("/", "_")
    return name if name.strip(".") else f"_{name}"


def _names(fragment_id: str, key: str) -> tuple[str, str]:
    return fragment_id, f"{fragment_id}-{key[1:9]}"


def _free_name(group: h5py.Group, record: Record) -> str:
    first, second = _names(record.fragment_id, record.key)
    return second if first in group else first


def _refuse(target: Path, options: Options) -> None:
    if not target.parent.is_dir():
        raise ExportError(f"there is no folder {target.parent}", "Create it, or name another.")
    if target.is_dir():
        raise ExportError(f"{target} is a folder", "Name a file in it.")
    if target.exists() and not options.overwrite:
        raise ExportError(f"{target} exists", "Replace it with --overwrite, or name another file.")


def _nothing(target: Path) -> ExportError:
    return ExportError(
        f"no record matches, so {target} was not written",
        "`qfarm status` shows what is done; `qfarm run` computes what waits.",
    )


def _unwritable(target: Path, error: OSError) -> ExportError:
    return ExportError(
        f"{target} could not be written: {error.strerror or error}",
        "Check the space and the rights in its folder, then export again; what was there before "
        "is untouched.",
    )
