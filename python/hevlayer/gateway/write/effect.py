"""What an acknowledged write has made of the cached rows, as far as that is certain."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from hevlayer.gateway.consistency import NamespaceView
from hevlayer.gateway.write.affected import Affected
from hevlayer.kernels.doccache import DocRows, DocSchema
from hevlayer.kernels.splice import WriteScan
from hevlayer.stores.doccache import DocumentCache, WriteToken

EPOCHS_MAX = 10_000
# Ids told one by one for a write that marked its whole namespace; beyond them the namespace gets a new epoch.
TOLD_IDS_MAX = 500_000

log = logging.getLogger("hevlayer.doccache")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that the upstream has acknowledged.

    Attributes:
        view: the namespace's, not older than the write.
        affected: what the upstream says was changed; None when it was not asked or did not say.
        tells_rows: its rows may be kept as written; not so for bodies on disk, and for callers whose namespace need not
            be the one that the cache holds under this name.
    """

    scan: WriteScan
    stamp_ms: int
    view: NamespaceView
    affected: Affected | None
    tells_rows: bool
    off_loop: bool = False
    """The body is so large that its rows are told in a thread."""


@dataclass(frozen=True, slots=True)
class Effect:
    """As `Engine.settle` takes it."""

    changed: Sequence[bytes] | None = None
    rows: DocRows | None = None
    deleted: Sequence[bytes] = ()


UNTOLD = Effect()


class SchemasByEpoch:
    """Which schema is that of the rows in the cache's present epoch.

    A schema that was read in an earlier epoch may have had other types for the same names: the namespace may have been
    deleted and made anew, or an attribute dropped and made anew. So a poll counts only if it began after the epoch was
    first seen, and the epoch is still that one now.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """`now_ms` never goes back, and is what polls are dated by."""
        self._now_ms = now_ms
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def schema(self, namespace: str, epoch: int, view: NamespaceView) -> DocSchema | None:
        """The namespace's schema, or None until a poll of this epoch has been answered."""
        seen = self._seen.get(namespace)
        if seen is None or seen[0] != epoch:
            self._seen[namespace] = (epoch, self._now_ms())
            self._seen.move_to_end(namespace)
            if len(self._seen) > EPOCHS_MAX:
                self._seen.popitem(last=False)
            return None
        polled_at_ms = view.polled_at_ms
        return view.schema.stored if polled_at_ms is not None and polled_at_ms > seen[1] else None


class Effects:
    """Tells the effect of writes on one document cache."""

    def __init__(self, cache: DocumentCache, now_ms: Callable[[], int]) -> None:
        self._cache = cache
        self._schemas = SchemasByEpoch(now_ms)

    async def tell(self, token: WriteToken, write: Acknowledged) -> Effect:
        """Called between the acknowledgement and the settle of `token`. Never raises: what fails is not told."""
        if not token.marked:
            return UNTOLD
        try:
            return await self._tell(token, write)
        except Exception:
            # The write is done and its caller must hear so; untold ids are read again from the upstream.
            log.exception("rows of a write cannot be told", extra={"namespace": token.namespace})
            return UNTOLD

    async def _tell(self, token: WriteToken, write: Acknowledged) -> Effect:
        scan, affected = write.scan, write.affected
        if token.keys is None:
            if write.off_loop:
                return await asyncio.to_thread(_of_namespace, scan, affected)
            return _of_namespace(scan, affected)
        if not scan.conditional:
            return await self._rows(token, write, None)
        if affected is None:
            return UNTOLD
        told = await self._rows(token, write, affected.keys)
        return Effect(affected.keys, told.rows, affected.deleted)

    async def _rows(self, token: WriteToken, write: Acknowledged, affected: Sequence[bytes] | None) -> Effect:
        if not write.tells_rows:
            return UNTOLD
        facts = await self._cache.facts(token.namespace)
        schema = None if facts is None else self._schemas.schema(token.namespace, facts.epoch, write.view)
        if schema is None:
            return UNTOLD
        tell = partial(write.scan.rows, write.stamp_ms, schema, affected=None if affected is None else list(affected))
        written = await asyncio.to_thread(tell) if write.off_loop else tell()
        rows = written.rows
        if written.patched:
            beneath = await self._cache.beneath(token)
            if beneath is not None:
                rows = DocRows.joined([rows, written.apply(beneath)])
        return Effect(rows=rows, deleted=written.deleted)


def _of_namespace(scan: WriteScan, affected: Affected | None) -> Effect:
    """Of a write that marked its whole namespace: the ids that it changed, so that the others may stay."""
    if scan.exclusive is not None or scan.drops_attribute or not scan.ids_known:
        return UNTOLD
    if scan.by_filter or scan.conditional:
        if affected is None or len(affected.keys) > TOLD_IDS_MAX:
            return UNTOLD
        return Effect(affected.keys, deleted=affected.deleted)
    if scan.upserts + scan.patches + scan.deletes > TOLD_IDS_MAX:
        return UNTOLD
    return Effect(scan.ids())
