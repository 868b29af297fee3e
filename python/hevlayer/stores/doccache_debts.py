"""What the cache could not be told: ids that bypass it until they are repaid. Pure bookkeeping, time is an argument."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

DEBT_IDS_MAX = 100_000
DEBT_NAMESPACES_MAX = 10_000
# Over so many owed namespaces the others are told "everything".
STATED_NAMESPACES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Repayment:
    """What is due: these ids of a namespace, or (None) all of it."""

    namespace: str
    keys: tuple[bytes, ...] | None
    serial: int
    """Debts with a later serial number are not part of it."""


@dataclass(frozen=True, slots=True)
class _Owed:
    due: float
    serial: int


class _Account:
    """One namespace's debts. A debt is due at a monotonic time; that of an open write has no time yet."""

    __slots__ = ("open_keys", "open_whole", "owed", "whole")

    def __init__(self) -> None:
        self.open_keys: Counter[bytes] = Counter()
        self.open_whole = 0
        self.owed: dict[bytes, _Owed] = {}
        self.whole: _Owed | None = None

    def covers(self, key: bytes) -> bool:
        return self.open_whole > 0 or self.whole is not None or key in self.owed or key in self.open_keys

    def is_empty(self) -> bool:
        return not (self.open_keys or self.open_whole or self.owed or self.whole)

    def size(self) -> int:
        return len(self.open_keys) + len(self.owed)


class Debts:
    """Debts by namespace. Over `DEBT_IDS_MAX` ids a namespace is owed as a whole; over `DEBT_NAMESPACES_MAX`
    namespaces everything is, for good."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self.serial = 0
        """Counts the debts ever owed."""
        self.everything = False

    def __bool__(self) -> bool:
        return self.everything or bool(self._accounts)

    def __len__(self) -> int:
        """Ids owed, a whole namespace counting as one."""
        return sum(max(1, account.size()) for account in self._accounts.values())

    def covers(self, namespace: str, key: bytes) -> bool:
        """Whether the cache may be out of date about an id."""
        account = self._accounts.get(namespace)
        return self.everything or (account is not None and account.covers(key))

    def touches(self, namespace: str) -> bool:
        return self.everything or namespace in self._accounts

    def namespaces(self) -> tuple[str, ...] | None:
        """Those that anything is owed of; None: all."""
        if self.everything or len(self._accounts) > STATED_NAMESPACES_MAX:
            return None
        return tuple(sorted(self._accounts))

    def _account(self, namespace: str) -> _Account:
        account = self._accounts.get(namespace)
        if account is None:
            if len(self._accounts) >= DEBT_NAMESPACES_MAX:
                self.everything = True
            account = self._accounts[namespace] = _Account()
        return account

    def open(self, namespace: str, keys: Sequence[bytes] | None) -> None:
        """A write begins whose mark was not set."""
        account = self._account(namespace)
        if keys is None:
            account.open_whole += 1
        else:
            account.open_keys.update(keys)
            self._fold(account)

    def close(self, namespace: str, keys: Sequence[bytes] | None, due: float | None) -> None:
        """That write has ended; None: it had no effect, else when its effect can have been repaid."""
        account = self._account(namespace)
        if keys is None:
            account.open_whole -= 1
        else:
            for key in keys:
                account.open_keys[key] -= 1
                if account.open_keys[key] <= 0:
                    del account.open_keys[key]
        if due is not None:
            self.owe(namespace, keys, due)
        elif account.is_empty():
            del self._accounts[namespace]

    def owe(self, namespace: str, keys: Sequence[bytes] | None, due: float) -> None:
        """Something happened to these ids that the cache could not be told; it can be repaid from `due` on."""
        account = self._account(namespace)
        self.serial += 1
        if keys is None:
            account.whole = self._later(account.whole, due)
            return
        for key in keys:
            account.owed[key] = self._later(account.owed.get(key), due)
        self._fold(account)

    def _later(self, before: _Owed | None, due: float) -> _Owed:
        return _Owed(due if before is None else max(due, before.due), self.serial)

    def _fold(self, account: _Account) -> None:
        if account.size() <= DEBT_IDS_MAX:
            return
        # Ids of open writes keep their own count: they are owed, one by one, only when their writes end.
        due = max((each.due for each in account.owed.values()), default=0.0)
        account.owed.clear()
        account.whole = self._later(account.whole, due)

    def due(self, now: float) -> list[Repayment]:
        """What can be repaid now."""
        found: list[Repayment] = []
        for namespace, account in self._accounts.items():
            if account.open_whole:
                continue
            if account.whole is not None:
                if account.whole.due <= now and not account.open_keys:
                    found.append(Repayment(namespace, None, self.serial))
                continue
            keys = tuple(key for key, each in account.owed.items() if each.due <= now and key not in account.open_keys)
            if keys:
                found.append(Repayment(namespace, keys, self.serial))
        return found

    def repaid(self, repayment: Repayment, now: float) -> None:
        """A repayment that was due at `now` was made; what came to be owed since then stays."""
        account = self._accounts.get(repayment.namespace)
        if account is None:
            return

        def is_paid(each: _Owed) -> bool:
            return each.due <= now and each.serial <= repayment.serial

        if repayment.keys is None:
            if account.whole is not None and is_paid(account.whole):
                account.whole = None
            account.owed = {key: each for key, each in account.owed.items() if not is_paid(each)}
        else:
            for key in repayment.keys:
                each = account.owed.get(key)
                if each is not None and is_paid(each):
                    del account.owed[key]
        if account.is_empty():
            del self._accounts[repayment.namespace]
