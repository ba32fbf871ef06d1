"""Owns the queries of features: their parameters, and how the next page is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from typing_extensions import TypedDict

from .generated.models import FeatureCollection, GetFeaturesProperty


class Query(TypedDict, total=False):
    """Parameters of items, as docs/reference/api.md describes them."""

    limit: int
    """Features on a page; iterators go on to the last page, whatever its size."""
    bbox: Sequence[float]
    bbox_crs: str
    crs: str
    datetime: str
    filter: str
    filter_lang: Literal["cql2-text", "cql2-json"]
    filter_crs: str
    sortby: Sequence[str]
    properties: Sequence[str]
    skip_geometry: bool
    offset: int
    property: Mapping[str, str]
    """Properties and the values that they must have."""


# The generated functions write a name with an underscore at its end if Python or a module has it.
RESERVED = frozenset({"datetime", "filter", "property"})


def arguments_of(query: Query) -> dict[str, Any]:
    """Returns a query as the generated function takes it."""
    arguments: dict[str, Any] = {}
    for name, value in query.items():
        if isinstance(value, Mapping):
            value = GetFeaturesProperty.from_dict(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = list(value)
        if value is not None:
            arguments[f"{name}_" if name in RESERVED else name] = value
    return arguments


def parameters_of(query: Query) -> dict[str, str]:
    """Returns a query as parameters of a URL."""
    parameters: dict[str, str] = {}
    for name, value in query.items():
        if name == "property":
            parameters.update(query["property"])
        elif value is not None:
            parameters["skipGeometry" if name == "skip_geometry" else name.replace("_", "-")] = _text_of(value)
    return parameters


def page_in(parsed: object) -> FeatureCollection:
    """Returns the page of an answer. Others are raised before."""
    if isinstance(parsed, FeatureCollection):
        return parsed
    raise TypeError(f"The answer is no page of features: {parsed!r}")


def place_after(page: FeatureCollection) -> dict[str, Any] | None:
    """Returns where the next page begins: by a cursor, or by a number where nothing tells features apart."""
    following = next((link.href for link in page.links if link.rel == "next"), None)
    if following is None:
        return None
    parameters = parse_qs(urlsplit(following).query)
    if "cursor" in parameters:
        return {"cursor": parameters["cursor"][0]}
    return {"offset": int(parameters["offset"][0])}


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or not isinstance(value, Sequence):
        return str(value)
    return ",".join(str(one) for one in value)
