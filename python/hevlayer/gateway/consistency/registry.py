"""The namespaces this gateway watches: who is registered, what is known of each, and when each is polled next."""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator

from hevlayer.clock import Clock
from hevlayer.gateway.consistency.stamps import Stamper
from hevlayer.gateway.consistency.view import COLD, NamespaceView

POLL_INTERVAL_SECONDS = 1.0
NAMESPACES_MAX = 10_000
IDLE_SECONDS = 1800.0
# How many of the longest unused entries are looked at for one that may make room.
EVICTION_LOOKS_MAX = 64

EpochListener = Callable[[str, str], None]
"""Called with (namespace, reason) when everything known of a namespace's rows is void: `gone` or `recreated`."""


class Entry:
    """One registered namespace of one scope. Owned by the registry; the watcher writes its schedule."""

    __slots__ = ("delay_seconds", "due_at", "failures", "namespace", "pinned", "polling", "scope", "used_at", "view")

    def __init__(self, namespace: str, scope: bytes, now: float) -> None:
        self.namespace = namespace
        self.scope = scope
        self.view: NamespaceView = COLD
        self.used_at = now
        self.due_at = now
        self.delay_seconds = 0.0
        self.failures = 0
        self.polling = False
        self.pinned = False


class Registry:
    """Namespaces by name and scope (`Credential.scope`), the least recently used first: callers of different
    organisations may mean different namespaces by one name, each with its own schema, index and watermark.

    A namespace enters by a write, a read or configuration that names it, and leaves after the upstream's 404, an idle
    period, a delete, or when the table is full and others were used later. A write in flight keeps it from being idle
    or making room.
    """

    def __init__(
        self,
        clock: Clock,
        stamper: Stamper,
        *,
        interval_seconds: float = POLL_INTERVAL_SECONDS,
        namespaces_max: int = NAMESPACES_MAX,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._clock = clock
        self._stamper = stamper
        self.interval_seconds = interval_seconds
        self._namespaces_max = namespaces_max
        self._idle_seconds = idle_seconds
        self._entries: OrderedDict[tuple[str, bytes], Entry] = OrderedDict()
        self._absent_until: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self._schedule: list[tuple[float, int, Entry]] = []
        self._sequence = itertools.count()
        self._listeners: list[EpochListener] = []
        self.refused_total = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, namespace: str) -> bool:
        return any(name == namespace for name, _ in self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def on_epoch(self, listener: EpochListener) -> None:
        self._listeners.append(listener)

    def view(self, namespace: str, scope: bytes = b"") -> NamespaceView:
        """What is known; registers nothing."""
        entry = self._entries.get((namespace, scope))
        return COLD if entry is None else entry.view

    def touch(self, namespace: str, scope: bytes = b"") -> NamespaceView:
        """Registers a use and gives what is known. A namespace that had gone quiet is polled at once again."""
        key = (namespace, scope)
        entry = self._entries.get(key)
        now = self._clock.monotonic()
        if entry is None:
            entry = self._register(namespace, scope, now)
            return COLD if entry is None else entry.view
        entry.used_at = now
        self._entries.move_to_end(key)
        if entry.due_at - now > self.interval_seconds and not entry.failures and not entry.polling:
            self.plan(entry, now)
        return entry.view

    def configure(self, namespace: str) -> None:
        """Registers a namespace that stays however idle it is."""
        self.touch(namespace)
        entry = self._entries.get((namespace, b""))
        if entry is not None:
            entry.pinned = True

    def forget(self, namespace: str) -> None:
        """Drops what is known in every scope, also polls under way. Writes in flight stay in the stamper's ledger."""
        for key in [key for key in self._entries if key[0] == namespace]:
            del self._entries[key]

    def _drop(self, entry: Entry) -> None:
        if self.is_current(entry):
            del self._entries[entry.namespace, entry.scope]

    def _register(self, namespace: str, scope: bytes, now: float) -> Entry | None:
        if len(self._entries) >= self._namespaces_max and not self._make_room():
            self.refused_total += 1
            return None
        entry = Entry(namespace, scope, now)
        self._entries[namespace, scope] = entry
        # A name that the upstream has just denied is not asked for again at each read of it.
        self.plan(entry, max(now, self._absent_until.pop((namespace, scope), now)))
        return entry

    def _make_room(self) -> bool:
        for entry in itertools.islice(self._entries.values(), EVICTION_LOOKS_MAX):
            if not entry.pinned and not self._stamper.busy(entry.namespace):
                self._drop(entry)
                return True
        return False

    # --- for the watcher ---------------------------------------------------------------------------------------------

    def plan(self, entry: Entry, due_at: float) -> None:
        entry.due_at = due_at
        heapq.heappush(self._schedule, (due_at, next(self._sequence), entry))

    def is_current(self, entry: Entry) -> bool:
        return self._entries.get((entry.namespace, entry.scope)) is entry

    def take_due(self, now: float) -> Entry | None:
        """The longest overdue entry, or None. Forgets those that have been idle for too long on the way."""
        while self._schedule and self._schedule[0][0] <= now:
            due_at, _, entry = heapq.heappop(self._schedule)
            if due_at != entry.due_at or entry.polling or not self.is_current(entry):
                continue
            idle = now - entry.used_at >= self._idle_seconds
            if idle and not entry.pinned and not self._stamper.busy(entry.namespace):
                self._drop(entry)
                continue
            return entry
        return None

    def mark_gone(self, entry: Entry) -> None:
        """The upstream has no such namespace."""
        self._drop(entry)
        self._absent_until[entry.namespace, entry.scope] = self._clock.monotonic() + self.interval_seconds
        if len(self._absent_until) > self._namespaces_max:
            self._absent_until.popitem(last=False)
        # Also when it was never seen by this process: rows of an earlier life may be cached on disk.
        self.announce(entry.namespace, "gone")

    def announce(self, namespace: str, reason: str) -> None:
        for listener in self._listeners:
            listener(namespace, reason)
