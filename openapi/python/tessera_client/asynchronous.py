"""Owns the asynchronous client. The build derives the synchronous one from it, in synchronous.py."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import httpx
from typing_extensions import Unpack

from .frame import frame_in, frame_parameters
from .generated.api.changes import create_feature, delete_feature, replace_feature, update_feature
from .generated.api.data import get_feature, get_features
from .generated.client import Client
from .generated.models import Feature, FeaturePatch, StoredFeatures
from .generated.types import UNSET
from .query import Query, arguments_of, page_in, place_after
from .stored import LINES, FeatureLike, Versioned, as_new, async_lines_of, stored_in, versioned
from .wire import AsyncTransport, Wire

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


class AsyncTessera:
    """A client of one API.

    It raises `TesseraProblem` for answers that are no success. A change is repeated under the same idempotency key if its
    answer was lost, for `patience` seconds, and happens once; `repeats_changes=False` is for databases that store no keys.
    What it changes, it sees in what it reads next. `api` is the client for the generated functions, and `http` the one for
    everything else; both have all of that, too.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        patience: float = 30.0,
        repeats_changes: bool = True,
        timeout: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        base_url = url.rstrip("/")
        wire = Wire(key=key, patience=patience, repeats_changes=repeats_changes)
        own = AsyncTransport(transport or httpx.AsyncHTTPTransport(), wire)
        self.http = httpx.AsyncClient(base_url=base_url, timeout=timeout, transport=own)
        self.api = Client(base_url=base_url).set_async_httpx_client(self.http)

    async def features(self, collection: str, **query: Unpack[Query]) -> AsyncIterator[Feature]:
        """Yields every feature that a query finds, page by page."""
        arguments = arguments_of(query)
        while True:
            page = page_in((await get_features.asyncio_detailed(collection, client=self.api, **arguments)).parsed)
            for feature in page.features:
                yield feature
            place = place_after(page)
            if place is None:
                return
            arguments = {**arguments, **place}

    async def feature(self, collection: str, feature_id: str | int) -> Versioned:
        answer = await get_feature.asyncio_detailed(collection, str(feature_id), client=self.api)
        return versioned(answer.parsed, answer.headers)

    async def create(
        self, collection: str, feature: FeatureLike, *, idempotency_key: str | None = None
    ) -> Versioned:
        answer = await create_feature.asyncio_detailed(
            collection,
            client=self.api,
            body=as_new(feature),
            prefer="return=representation",
            idempotency_key=idempotency_key or UNSET,
        )
        return versioned(answer.parsed, answer.headers)

    async def update(
        self,
        collection: str,
        feature_id: str | int,
        changes: Mapping[str, Any],
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Versioned:
        """Changes some members (RFC 7396), as in `{"properties": {"name": "New"}}`."""
        answer = await update_feature.asyncio_detailed(
            collection,
            str(feature_id),
            client=self.api,
            body=FeaturePatch.from_dict(changes),
            if_match=if_match or UNSET,
            idempotency_key=idempotency_key or UNSET,
        )
        return versioned(answer.parsed, answer.headers)

    async def replace(
        self,
        collection: str,
        feature_id: str | int,
        feature: FeatureLike,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Versioned:
        answer = await replace_feature.asyncio_detailed(
            collection,
            str(feature_id),
            client=self.api,
            body=as_new(feature),
            if_match=if_match or UNSET,
            idempotency_key=idempotency_key or UNSET,
        )
        return versioned(answer.parsed, answer.headers)

    async def delete(
        self,
        collection: str,
        feature_id: str | int,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        await delete_feature.asyncio_detailed(
            collection,
            str(feature_id),
            client=self.api,
            if_match=if_match or UNSET,
            idempotency_key=idempotency_key or UNSET,
        )

    async def store(
        self,
        collection: str,
        features: Iterable[FeatureLike] | AsyncIterable[FeatureLike],
        *,
        mode: Literal["insert", "upsert"] = "insert",
        idempotency_key: str | None = None,
    ) -> StoredFeatures:
        """Stores features: all of them or none. A list is sent again if its answer was lost; an iterator is sent once."""
        headers = {"Content-Type": LINES, **({"Idempotency-Key": idempotency_key} if idempotency_key else {})}
        path = f"/collections/{quote(collection, safe='')}/items"
        answer = await self.http.post(
            path, params={"mode": mode}, headers=headers, content=async_lines_of(features)
        )
        return stored_in(answer)

    async def geodataframe(self, collection: str, **query: Unpack[Query]) -> GeoDataFrame:
        """Returns all features that a query finds as they were at one moment. It needs the extra `geo`."""
        path = f"/collections/{quote(collection, safe='')}/items"
        return frame_in((await self.http.get(path, params=frame_parameters(query))).content)

    async def aclose(self) -> None:
        await self.http.aclose()

    async def __aenter__(self) -> AsyncTessera:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
