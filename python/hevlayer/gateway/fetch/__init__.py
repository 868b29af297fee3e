"""Documents by id: from the cache, else from the upstream, which then fills the cache."""

from hevlayer.gateway.fetch.hits import CachedHits
from hevlayer.gateway.fetch.owners import CacheOwners
from hevlayer.gateway.fetch.routes import FetchRoutes

__all__ = ["CacheOwners", "CachedHits", "FetchRoutes"]
