"""A typed client of Tessera's API, synchronous and asynchronous."""

from .asynchronous import AsyncTessera
from .generated.models import Feature, NewFeature, StoredFeatures
from .query import Query
from .stored import FeatureLike, Versioned
from .synchronous import Tessera
from .wire import TesseraProblem

__all__ = [
    "AsyncTessera",
    "Feature",
    "FeatureLike",
    "NewFeature",
    "Query",
    "StoredFeatures",
    "Tessera",
    "TesseraProblem",
    "Versioned",
]
