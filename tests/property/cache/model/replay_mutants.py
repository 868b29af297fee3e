"""The implementation broken on purpose: each of these must be found by some history."""

from collections.abc import Sequence
from typing import Any

from replay_house import GatedEngine

from hevlayer.kernels.doccache import DocProjection, DocRows
from hevlayer.stores.doccache import DocumentCache, WriteOutcome, WriteToken
from hevlayer.stores.doccache_debts import Debts
from hevlayer.stores.doccache_engine import Ticket

PLAIN = DocProjection()


class SkipsMarks(GatedEngine):
    async def do_mark(self, *_: Any) -> None:
        pass

    async def do_settle(self, *_: Any, **__: Any) -> bool:
        return True


class KeepsRowsOfFilters(GatedEngine):
    async def do_settle(self, *arguments: Any, changed: Sequence[bytes] | None = None, **options: Any) -> bool:
        return await self.engine.settle(*arguments, changed=None if changed is None else [], **options)


class IgnoresEpochs(GatedEngine):
    async def do_settle(
        self, token: int, namespace: str, keys: Any, outcome: WriteOutcome, *, changed: Any = None, **options: Any
    ) -> bool:
        if keys is None and changed is None and outcome is WriteOutcome.APPLIED:
            outcome = WriteOutcome.REFUSED
        return await self.engine.settle(token, namespace, keys, outcome, changed=changed, **options)


class TakesUnknownForRefused(GatedEngine):
    async def do_settle(self, token: int, namespace: str, keys: Any, outcome: WriteOutcome, **options: Any) -> bool:
        told = WriteOutcome.REFUSED if outcome is WriteOutcome.UNKNOWN else outcome
        return await self.engine.settle(token, namespace, keys, told, **options)


class ForgetsUnknownMarks(GatedEngine):
    async def do_settle(self, token: int, namespace: str, keys: Any, outcome: WriteOutcome, **options: Any) -> bool:
        told = WriteOutcome.APPLIED if outcome is WriteOutcome.UNKNOWN else outcome
        return await self.engine.settle(token, namespace, keys, told, **options)


class FillsWithoutTickets(GatedEngine):
    async def do_fill(self, namespace: str, rows: DocRows, keys: Sequence[bytes], _: Sequence[Ticket]) -> int:
        found = await self.engine.lookup_many(namespace, keys, PLAIN)
        return await self.engine.fill(namespace, rows, keys, [each if isinstance(each, int) else 0 for each in found])


class FillsPagesWithoutTickets(GatedEngine):
    async def do_fill_page(self, namespace: str, rows: DocRows, _: Ticket) -> tuple[int, list[bytes]]:
        return await self.engine.fill_page(namespace, rows, await self.engine.begin_fill(namespace))


class DropsStatements(GatedEngine):
    async def do_owe(self, *_: Any) -> None:
        pass


class SettlesTooEarly(DocumentCache):
    async def begin_write(self, *arguments: Any) -> WriteToken:
        token = await super().begin_write(*arguments)
        await self.settle(token, WriteOutcome.APPLIED)
        return token


class _NoDebts(Debts):
    def owe(self, *_: Any) -> None:
        pass

    open = close = owe


class ForgetsDebts(DocumentCache):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._debts = _NoDebts()


BROKEN_ENGINES = {
    "a mark is skipped": SkipsMarks,
    "rows that a filter changed are kept": KeepsRowsOfFilters,
    "an epoch is ignored": IgnoresEpochs,
    "unknown counts as refused": TakesUnknownForRefused,
    "an unknown write's mark ends at once": ForgetsUnknownMarks,
    "fills need no ticket": FillsWithoutTickets,
    "pages need no ticket": FillsPagesWithoutTickets,
    "debts are not stated": DropsStatements,
}
BROKEN_POLICIES = {
    "a write settles before its answer": SettlesTooEarly,
    "a debt is forgotten": ForgetsDebts,
}
