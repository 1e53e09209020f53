"""Rows: runs a statement of doctor, and returns its rows as objects of a class."""

from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

Shape = TypeVar("Shape")


async def read_rows(
    connection: psycopg.AsyncConnection[Any], statement: LiteralString | bytes, shape: type[Shape]
) -> list[Shape]:
    """Return an object of `shape` for each row; the columns have the names of its fields."""
    async with connection.cursor(row_factory=class_row(shape)) as cursor:
        return await (await cursor.execute(statement)).fetchall()


async def read_row(
    connection: psycopg.AsyncConnection[Any], statement: LiteralString | bytes, shape: type[Shape]
) -> Shape:
    """Return the one row of a SELECT that has no FROM; ValueError where there is another number."""
    (row,) = await read_rows(connection, statement, shape)
    return row
