"""Owns features as a GeoDataFrame, which needs the extra `geo`."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from .query import Query, parameters_of

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


def frame_parameters(query: Query) -> dict[str, str]:
    """Returns the parameters of one answer with all features, of one moment, which breaks off if it is not complete."""
    return {"limit": "none", **parameters_of(query), "f": "fgb"}


def frame_in(content: bytes) -> GeoDataFrame:
    """Returns the features of a FlatGeobuf file, with the types of the columns and the coordinate system."""
    try:
        from geopandas import read_file
    except ImportError as cause:
        raise ImportError("GeoDataFrames need geopandas: pip install 'tessera-client[geo]'") from cause
    return read_file(BytesIO(content))
