"""Two engines of the protocol's model, for one id: what the port promises, and records with compare-and-set.

A cache is an immutable value; every call gives a new one. A stamp is a moment: the explorer only compares stamps, and
renumbers them so that states that differ in their numbers alone are one state.
"""

from typing import Any, NamedTuple

Row = tuple[int, int] | None
"""Two halves, so that half a row can be told from a row; None for a document that does not exist."""

MISSING = "missing"
APPLIED, REFUSED, UNKNOWN = "applied", "refused", "unknown"
NO_TOKENS: frozenset[str] = frozenset()


class Ideal(NamedTuple):
    """The port: one state an id, one moment at which it was last touched."""

    row: Any = MISSING
    tokens: frozenset[str] = NO_TOKENS
    closed: frozenset[str] = NO_TOKENS
    beneath: Any = MISSING
    contended: bool = False
    touched: int = 1
    quiet: bool = False
    """It forgot marks, and gives no ticket until the writes of those marks have ended."""

    def stamps(self) -> tuple[int, ...]:
        return (self.touched,)

    def restamped(self, ranks: dict[int, int]) -> "Ideal":
        return self._replace(touched=ranks[self.touched])

    @staticmethod
    def ticket_stamps(ticket: int) -> tuple[int, ...]:
        return (abs(ticket),)

    @staticmethod
    def restamped_ticket(ticket: int, ranks: dict[int, int]) -> int:
        return ranks[ticket] if ticket >= 0 else -ranks[-ticket]

    def visible(self) -> Any:
        """What a look-up would serve."""
        return MISSING if self.tokens or self.closed else self.row

    def lookup(self, now: int) -> tuple[int, "Ideal"]:
        return (-self.touched if self.tokens or self.closed or self.quiet else self.touched), self

    def page(self, now: int) -> int:
        return 0 if self.closed or self.quiet else self.touched

    def is_dead(self, ticket: int, *, page: bool) -> bool:
        """Whether no fill with this ticket can take effect any more."""
        return ticket != self.touched

    def fill(self, ticket: int, row: Row, now: int, *, page: bool, checked: bool) -> "Ideal":
        if self.tokens or self.closed or (checked and ticket != self.touched):
            return self
        if row is None or (self.row != MISSING and not page):
            return self
        return self._replace(row=row)

    def mark(self, token: str, now: int, *, whole: bool) -> "Ideal":
        if whole:
            return self._replace(closed=self.closed | {token}, touched=now, contended=bool(self.tokens))
        return self._replace(
            tokens=self.tokens | {token},
            beneath=self.beneath if self.tokens else self.row,
            row=MISSING,
            contended=self.contended or bool(self.tokens or self.closed),
            touched=now,
        )

    def settle(
        self, token: str, outcome: str, now: int, *, row: Any, changed: bool | None, keeps_quiet: bool = True
    ) -> tuple[bool, "Ideal"]:
        """`row` is what the write stores when that is known; `changed` is what the upstream said of this id, if so."""
        if token in self.closed:
            return True, self._settle_whole(token, outcome, now, changed)
        if token not in self.tokens:
            return False, self
        if outcome == UNKNOWN:
            return True, self._replace(contended=True, beneath=MISSING)
        rest = self._replace(tokens=self.tokens - {token}, touched=now)
        if outcome == APPLIED:
            rest = rest._replace(contended=rest.contended or bool(rest.tokens))
        if rest.tokens:
            return True, rest
        after = MISSING
        # A write whose mark was forgotten may have come between this one and its settle, and a patch would miss it.
        if not rest.contended and not (self.quiet and outcome == APPLIED and keeps_quiet):
            after = self.beneath if outcome == REFUSED or changed is False else row
        # A deleted document is missing, not kept as absent.
        after = MISSING if after is None else after
        return True, rest._replace(row=after, beneath=MISSING, contended=False)

    def _settle_whole(self, token: str, outcome: str, now: int, changed: bool | None) -> "Ideal":
        if outcome == UNKNOWN:
            return self
        after = self._replace(closed=self.closed - {token}, touched=now)
        if outcome == REFUSED or changed is False:
            return after
        return after._replace(row=MISSING, beneath=MISSING, contended=bool(self.tokens))

    def clear(self, now: int) -> "Ideal":
        return self._replace(row=MISSING, beneath=MISSING, touched=now)

    def beneath_of(self, token: str) -> Any:
        return self.beneath if self.tokens == {token} and not self.contended else MISSING

    def losses(self, now: int) -> list[tuple[str, "Ideal"]]:
        """What may be lost: the row, or everything, and then no ticket is good any more."""
        found = [("forgets everything", Ideal(touched=now, quiet=bool(self.tokens or self.closed)))]
        if self.row != MISSING or self.beneath != MISSING:
            found.append(("evicts the row", self._replace(row=MISSING, beneath=MISSING)))
        return found

    def passes(self, ticket: int, *, may_expire: bool) -> "Ideal":
        return self


class Record(NamedTuple):
    """A record of the server: `empty` (a reader's lease or a tombstone), `row` or `mark`. Its nonce differs from that
    of every other record, also of those that stood in its place before."""

    kind: str
    nonce: int
    touched: int
    tokens: frozenset[str] = NO_TOKENS
    row: Any = MISSING
    contended: bool = False


class Cas(NamedTuple):
    """A server of records that may lose each of them alone: the namespace's record and the id's record under its epoch.

    `generations` compares records by their generation, which begins anew with every record, in place of a nonce.
    `rows_go_early` lets it lose a row that a write left before a tombstone in its place would be.
    """

    epoch: int = 1
    """0: the namespace's record is not there."""
    closed: frozenset[str] = NO_TOKENS
    record: Record | None = None
    generations: bool = False
    rows_go_early: bool = False

    def stamps(self) -> tuple[int, ...]:
        if self.record is None:
            return (self.epoch,)
        return (self.epoch, self.record.touched) if self.generations else (self.epoch, *self.record[1:3])

    def restamped(self, ranks: dict[int, int]) -> "Cas":
        record = self.record
        if record is not None:
            nonce = record.nonce if self.generations else ranks[record.nonce]
            record = record._replace(nonce=nonce, touched=ranks[record.touched])
        return self._replace(epoch=ranks[self.epoch], record=record)

    def ticket_stamps(self, ticket: Any) -> tuple[int, ...]:
        return (ticket[0],) if self.generations else (ticket[0], abs(ticket[1]))

    def restamped_ticket(self, ticket: Any, ranks: dict[int, int]) -> Any:
        epoch, seen = ticket
        if not self.generations:
            seen = ranks[seen] if seen >= 0 else -ranks[-seen]
        return ranks[epoch], seen

    def next_nonce(self, now: int) -> int:
        if not self.generations:
            return now
        return 1 if self.record is None else self.record.nonce + 1

    def _with_epoch(self, now: int) -> "Cas":
        """The namespace's record is made by whoever misses it, with a number of its own."""
        return self if self.epoch else self._replace(epoch=now, record=None)

    def visible(self) -> Any:
        record = self.record
        return record.row if self.epoch and not self.closed and record and record.kind == "row" else MISSING

    def lookup(self, now: int) -> tuple[Any, "Cas"]:
        """A reader who finds no record leaves an empty one, so that its fill can name what it saw."""
        cache = self._with_epoch(now)
        record = cache.record
        if record is None:
            record = Record("empty", cache.next_nonce(now), 0)
            cache = cache._replace(record=record)
        nonce = record.nonce
        return (cache.epoch, -nonce if record.kind == "mark" or cache.closed else nonce), cache

    def page(self, now: int) -> Any:
        return (0, 0) if self.closed or not self.epoch else (self.epoch, now)

    def is_dead(self, ticket: Any, *, page: bool) -> bool:
        """Whether no fill with this ticket can take effect any more; a mark may be lost, and then a page's can."""
        epoch, seen = ticket
        if epoch != self.epoch or seen <= 0:
            return True
        if page or self.generations:
            return False
        return self.record is None or self.record.nonce != seen

    def fill(self, ticket: Any, row: Row, now: int, *, page: bool, checked: bool) -> "Cas":
        epoch, seen = ticket
        record = self.record
        if epoch != self.epoch or row is None:
            # A record under another epoch's key is never looked up.
            return self
        if page:
            untouched = record is None or (record.kind != "mark" and record.touched < seen)
            if not untouched and checked:
                return self
            return self._replace(record=Record("row", self.next_nonce(now), record.touched if record else 0, row=row))
        if record is None:
            return self if checked else self._replace(record=Record("row", self.next_nonce(now), 0, row=row))
        if record.kind != "empty" or (checked and record.nonce != seen):
            return self
        return self._replace(record=record._replace(kind="row", row=row, nonce=self.next_nonce(now)))

    def mark(self, token: str, now: int, *, whole: bool) -> "Cas":
        cache = self._with_epoch(now)
        if whole:
            return cache._replace(closed=cache.closed | {token})
        record = cache.record
        nonce = cache.next_nonce(now)
        if record is None:
            marked = Record("mark", nonce, now, frozenset({token}), contended=bool(cache.closed))
        elif record.kind == "mark":
            marked = record._replace(nonce=nonce, touched=now, tokens=record.tokens | {token}, contended=True)
        else:
            marked = Record("mark", nonce, now, frozenset({token}), record.row, bool(cache.closed))
        return cache._replace(record=marked)

    def settle(
        self, token: str, outcome: str, now: int, *, row: Any, changed: bool | None, keeps_quiet: bool = True
    ) -> tuple[bool, "Cas"]:
        record = self.record
        nonce = self.next_nonce(now)
        if token in self.closed:
            if outcome == UNKNOWN:
                return True, self
            after = self._replace(closed=self.closed - {token})
            if outcome == REFUSED or changed is False:
                return True, after
            if changed is None:
                return True, after._replace(epoch=now, record=None)
            if record is not None and record.kind == "mark":
                record = record._replace(nonce=nonce, touched=now, row=MISSING, contended=True)
            else:
                record = Record("empty", nonce, now)
            return True, after._replace(record=record)
        if record is None or token not in record.tokens:
            return False, self
        if outcome == UNKNOWN:
            return True, self._replace(record=record._replace(contended=True, row=MISSING, nonce=nonce, touched=now))
        rest = record._replace(tokens=record.tokens - {token}, nonce=nonce, touched=now)
        rest = rest._replace(
            contended=rest.contended or bool(self.closed) or (outcome == APPLIED and bool(rest.tokens))
        )
        if rest.tokens:
            return True, self._replace(record=rest)
        after_row = MISSING
        if not rest.contended:
            after_row = record.row if outcome == REFUSED or changed is False else row
        kept = after_row != MISSING and after_row is not None
        settled = Record("row" if kept else "empty", nonce, now, row=after_row if kept else MISSING)
        return True, self._replace(record=settled)

    def clear(self, now: int) -> "Cas":
        return self._replace(epoch=now, record=None)

    def beneath_of(self, token: str) -> Any:
        record = self.record
        return record.row if record and record.tokens == {token} and not record.contended else MISSING

    def losses(self, now: int) -> list[tuple[str, "Cas"]]:
        """Any record may be lost alone, but what a write left only at the end of a tombstone's life: see `passes`."""
        found = [("loses the namespace's record", self._replace(epoch=0, closed=NO_TOKENS, record=None))]
        record = self.record
        if record is not None and (not record.touched or record.kind == "mark" or self._goes_early(record)):
            found.append((f"loses the id's {record.kind} record", self._replace(record=None)))
        return found

    def _goes_early(self, record: Record) -> bool:
        return record.kind == "row" and self.rows_go_early

    def passes(self, ticket: Any, *, may_expire: bool) -> "Cas":
        """The life of what a write left ends; `ticket` is that of the oldest page under way, (0, 0) for none."""
        record = self.record
        if record is None or record.kind == "mark" or not record.touched:
            return self
        outlived = not ticket[1] or record.touched < ticket[1]
        return self._replace(record=None) if outlived or may_expire else self
