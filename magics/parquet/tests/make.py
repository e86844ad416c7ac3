"""Makes the files of the tests with pyarrow: `python make.py` in this folder."""

import datetime
import decimal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

pets = pa.table(
    {
        "weight": pa.array([4.5, None, 20.25, 3.0, 31.5, 5.0], pa.float32()),
        "age": pa.array([3, 5, None, 1, 9, 2], pa.int16()),
        "species": pa.array(["cat", "cat", "dog", "cat", "dog", "cat"]).dictionary_encode(),
        "name": pa.array(["Ada", None, "Ben", "Cleo", "Dux", "Eve"]),
        "chipped": pa.array([True, False, True, True, False, True]),
        "born": pa.array([datetime.date(2020 + year, 1, 2) for year in range(6)]),
        "fee": pa.array([decimal.Decimal(f"{cents}.50") for cents in range(6)], pa.decimal128(7, 2)),
        "count": pa.array([0, 1, 2, 3, 4, 2**63], pa.uint64()),
        "tags": pa.array([["a"], [], None, ["b", "c"], ["d"], []]),
    }
)
pa.parquet.write_table(pets.drop(["count", "tags"]), "pets.parquet", compression="snappy")
pa.parquet.write_table(pets.select(["age", "count"]), "large.parquet", compression="gzip")
pa.parquet.write_table(pets.select(["age", "tags"]), "nested.parquet", compression="none")

rows = range(1000)
numbers = pa.table(
    {
        "a": pa.array([float(row) for row in rows]),
        "y": pa.array([3 * row for row in rows], pa.int32()),
        "b": pa.array([row % 7 for row in rows], pa.uint8()),
    }
)
pa.parquet.write_table(numbers, "numbers.parquet", compression="zstd", row_group_size=150)
pa.feather.write_feather(numbers, "numbers.arrow", compression="lz4", chunksize=300)
gaps = numbers.slice(0, 40).set_column(2, "b", pa.array([None if row == 33 else row for row in range(40)]))
pa.parquet.write_table(gaps, "gaps.parquet", compression="lz4", row_group_size=16)
