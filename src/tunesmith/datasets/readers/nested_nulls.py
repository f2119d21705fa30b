"""Nested values of columnar data: a null field of a struct is a key that the row does not have.

Arrow and Parquet give all structs of a column the same fields, so a message that makes no call has
`tool_calls: null` there. Which keys a row needs is not known here.
"""

from __future__ import annotations

from typing import Any

from tunesmith.datasets.json_types import is_array, is_object

__all__ = ["without_null_fields"]


def without_null_fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose structs have no null fields; a row without structs is returned as it is.

    Beside a struct or a list the null columns are left out, too: they are optional parts of the
    row, such as `tools`.
    """
    if not any(is_object(value) or is_array(value) for value in row.values()):
        return row
    return {name: _absent(value) for name, value in row.items() if value is not None}


def _absent(value: Any) -> Any:
    if is_object(value):
        return {name: _absent(item) for name, item in value.items() if item is not None}
    if is_array(value):
        return [_absent(item) for item in value]
    return value
