"""Tables as pandas DataFrames, where pandas is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nephros.errors import require_extra

if TYPE_CHECKING:
    from pandas import DataFrame


def to_data_frame(columns: Mapping[str, Sequence[Any]]) -> DataFrame:
    """Return a DataFrame of columns by name; MissingDependency without pandas."""
    with require_extra("DataFrames need pandas: pip install 'nephros[pandas]'.", "pandas"):
        import pandas
    return pandas.DataFrame(dict(columns))
