"""Owns features on their way into a collection, and what comes back of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union

import httpx

from .generated.models import Feature, NewFeature, StoredFeatures

# A feature as GeoJSON, or as the generated type.
FeatureLike = Union[NewFeature, Feature, Mapping[str, Any]]

LINES = "application/x-ndjson"
# Characters that are sent at once.
CHUNK = 65_536


@dataclass(frozen=True)
class Versioned:
    """A feature, and the entity tag of its version for `if_match`."""

    feature: Feature
    etag: str

    @property
    def id(self) -> str:
        return str(self.feature.id)


def versioned(parsed: object, headers: Mapping[str, str]) -> Versioned:
    """Returns the feature of an answer. Others are raised before."""
    if isinstance(parsed, Feature):
        return Versioned(parsed, httpx.Headers(headers)["ETag"])
    raise TypeError(f"The answer is no feature: {parsed!r}")


def as_dict(feature: FeatureLike) -> dict[str, Any]:
    return dict(feature) if isinstance(feature, Mapping) else feature.to_dict()


def as_new(feature: FeatureLike) -> NewFeature:
    given = as_dict(feature)
    # What a read returns besides, such as links, is not stored.
    names = ("id", "geometry", "properties")
    return NewFeature.from_dict({"type": "Feature", **{name: given[name] for name in names if name in given}})


def lines_of(features: Iterable[FeatureLike]) -> bytes | Iterator[bytes]:
    """Returns features as lines: at once if they are in memory anyway, so that they can be sent again."""
    if isinstance(features, (list, tuple)):
        return b"".join(line_of(feature) for feature in features)
    return _chunks(features)


def async_lines_of(features: Iterable[FeatureLike] | AsyncIterable[FeatureLike]) -> bytes | AsyncIterator[bytes]:
    if isinstance(features, (list, tuple)):
        return b"".join(line_of(feature) for feature in features)
    return _async_chunks(features)


def line_of(feature: FeatureLike) -> bytes:
    return json.dumps(as_new(feature).to_dict(), separators=(",", ":")).encode() + b"\n"


def stored_in(response: httpx.Response) -> StoredFeatures:
    return StoredFeatures.from_dict(response.json())


def _chunks(features: Iterable[FeatureLike]) -> Iterator[bytes]:
    chunk = bytearray()
    for feature in features:
        chunk += line_of(feature)
        if len(chunk) >= CHUNK:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


async def _async_chunks(features: Iterable[FeatureLike] | AsyncIterable[FeatureLike]) -> AsyncIterator[bytes]:
    if not isinstance(features, AsyncIterable):
        for chunk in _chunks(features):
            yield chunk
        return
    collected = bytearray()
    async for feature in features:
        collected += line_of(feature)
        if len(collected) >= CHUNK:
            yield bytes(collected)
            collected.clear()
    if collected:
        yield bytes(collected)
