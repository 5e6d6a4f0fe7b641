"""Reading a recording: CSV or Parquet, in blocks of rows, times as ms since the epoch and values in canonical units.

Streams: memory holds one block. Times must increase from row to row, because (device, time) is a reading's key.
Raises `ConfigError` with file, row and column for whatever cannot be read; an empty cell or NaN means "not reported".
"""

import csv
import math
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from devices.catalogue import load as load_catalogue
from devices.errors import ConfigError
from devices.model import Milliseconds
from devices.units import conversion
from simulators.recording_map import RecordingMap, Series, TimeColumn

BLOCK = 200  # rows
_DECIMALS = 6  # of canonical values: 1 Pa, 1 mL/h; recordings are not better
_TRUE, _FALSE = ("1", "1.0", "true", "yes", "on"), ("0", "0.0", "false", "no", "off")

Value = float | bool | str | None


class Block(NamedTuple):
    """Rows of a recording: `times[i]` and `columns[series][i]` belong together."""

    times: list[Milliseconds]
    columns: list[list[Value]]


def read_recording(path: Path, recording: RecordingMap) -> Iterator[Block]:
    """All rows in blocks of at most `BLOCK`; columns in the order of `recording.series`."""
    match path.suffix.lower():
        case ".csv":
            rows = _read_csv(path, recording)
        case ".parquet":
            rows = _read_parquet(path, recording)
        case other:
            raise ConfigError(f"{path.name}: a recording is .csv or .parquet, not {other or 'a file without suffix'}")
    last: Milliseconds | None = None
    first_row = 1
    for block in rows:
        for offset, time in enumerate(block.times):
            if last is not None and time <= last:
                raise ConfigError(f"{path.name}, data row {first_row + offset}: the time does not increase")
            last = time
        first_row += len(block.times)
        yield block


def span(path: Path, recording: RecordingMap) -> tuple[Milliseconds, Milliseconds]:
    """The first and the last time of the recording."""
    first: Milliseconds | None = None
    last: Milliseconds = 0
    for block in read_recording(path, recording):
        first = block.times[0] if first is None else first
        last = block.times[-1]
    if first is None:
        raise ConfigError(f"{path.name}: the recording has no rows")
    return first, last


def _clock(time: TimeColumn) -> Callable[[Any], Milliseconds]:
    zone = ZoneInfo(time.timezone)

    def absolute(moment: datetime) -> Milliseconds:
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return round(moment.timestamp() * 1000)

    match time.format:
        case "iso":
            return lambda cell: absolute(cell if isinstance(cell, datetime) else datetime.fromisoformat(str(cell)))
        case "epoch_s":
            return lambda cell: round(float(cell) * 1000)
        case "epoch_ms":
            return lambda cell: round(float(cell))
        case pattern:
            return lambda cell: absolute(datetime.strptime(str(cell), pattern))


def _converter(series: Series) -> Callable[[Any], Value]:
    prop = load_catalogue().properties[series.property]
    if prop.kind == "state":
        return lambda cell: str(cell) if cell not in (None, "") else None
    if prop.kind == "boolean":
        return _boolean
    factor, offset = conversion(series.unit or prop.unit, prop.unit)

    def number(cell: Any) -> Value:
        if cell is None or cell == "":
            return None
        value = float(cell)
        if math.isinf(value):
            raise ValueError(f"{cell!r} is not a number that can be measured")
        return None if math.isnan(value) else round(value * factor + offset, _DECIMALS)

    return number


def _boolean(cell: Any) -> Value:
    word = str(cell).strip().lower()
    if cell is None or word in ("", "nan"):
        return None
    if word not in _TRUE + _FALSE:
        raise ValueError(f"expected true or false, not {cell!r}")
    return word in _TRUE


def _require(path: Path, recording: RecordingMap, present: list[str]) -> None:
    wanted = [recording.time.column, *(series.column for series in recording.series)]
    if missing := [column for column in wanted if column not in present]:
        raise ConfigError(f"{path.name}: no column {missing[0]!r}; there are {', '.join(present[:60])}")


def _convert(path: Path, row: int, column: str, convert: Callable[[Any], Any], cell: Any) -> Any:
    try:
        return convert(cell)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(f"{path.name}, data row {row}, column {column!r}: {error}") from error


def _read_csv(path: Path, recording: RecordingMap) -> Iterator[Block]:
    clock = _clock(recording.time)
    converters = [(series.column, _converter(series)) for series in recording.series]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _require(path, recording, list(reader.fieldnames or ()))
            block = Block([], [[] for _ in converters])
            for row, cells in enumerate(reader, 1):
                block.times.append(_convert(path, row, recording.time.column, clock, cells[recording.time.column]))
                for (column, convert), values in zip(converters, block.columns, strict=True):
                    values.append(_convert(path, row, column, convert, cells[column]))
                if len(block.times) == BLOCK:
                    yield block
                    block = Block([], [[] for _ in converters])
            if block.times:
                yield block
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name}: cannot be read: {error}") from error


def _read_parquet(path: Path, recording: RecordingMap) -> Iterator[Block]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            f"{path.name}: reading Parquet needs pyarrow: `make setup` or `.venv/bin/pip install pyarrow`"
        ) from None
    try:
        file = parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(f"{path.name}: cannot be read: {error}") from error
    _require(path, recording, file.schema_arrow.names)
    clock = _clock(recording.time)
    converters = [(series.column, _converter(series)) for series in recording.series]
    wanted = [recording.time.column, *(column for column, _ in converters)]
    row = 1
    for batch in file.iter_batches(batch_size=BLOCK, columns=list(dict.fromkeys(wanted))):
        cells = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        times = [
            _convert(path, row + i, recording.time.column, clock, c) for i, c in enumerate(cells[recording.time.column])
        ]
        columns = [
            [_convert(path, row + i, column, convert, cell) for i, cell in enumerate(cells[column])]
            for column, convert in converters
        ]
        yield Block(times, columns)
        row += len(times)
