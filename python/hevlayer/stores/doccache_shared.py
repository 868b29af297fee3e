"""What the other gateways of a shared cache owe it, and how they are told what this one owes.

Only for debts that the cache itself cannot be told. A gateway that owes publishes that and then waits until every other
one has looked at the board, or has not for so long that it serves and fills nothing until it has.
"""

import itertools
import logging
import secrets

from hevlayer.clock import Clock
from hevlayer.errors import LayerError
from hevlayer.stores.debts import DebtBoard, OwnersDebt

LOOK_SECONDS = 0.2
# How long a look at the board is good for. A write that has to be published waits for so long.
TRUST_SECONDS = 2.0
EVERYTHING = None

log = logging.getLogger("hevlayer.doccache")


class SharedDebts:
    """One gateway's view of the board. `run` under a supervisor; until its first look nothing is trusted."""

    def __init__(self, board: DebtBoard, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self.owner = secrets.randbits(62)
        self._others: frozenset[str] = frozenset()
        self._others_owe_everything = False
        self._looked_at = float("-inf")
        self._ready: dict[str | None, float] = {}
        """What stands on the board of this gateway's debts, and from when on every other gateway knows."""
        self._serials = itertools.count(1)
        self._published = 0
        """The serial number of what stands there; 0: nothing, as far as it is known."""
        self._published_at = float("-inf")
        self._may_stand = False
        self._failing = False
        self.silent: tuple[OwnersDebt, ...] = ()
        """Debts of gateways that died; somebody must take them over, and then call `remove`."""

    @property
    def is_trusted(self) -> bool:
        """Whether this gateway knows what the others owe."""
        return self._clock.monotonic() - self._looked_at < TRUST_SECONDS

    def hides(self, namespace: str) -> bool:
        """Whether the cache must not be believed about a namespace, nor filled."""
        return self._others_owe_everything or namespace in self._others or not self.is_trusted

    @property
    def hides_any(self) -> bool:
        """Whether that may be so of some namespace."""
        return self._others_owe_everything or bool(self._others) or not self.is_trusted

    async def look_once(self) -> None:
        """A failure is logged once and leaves what was known, for `TRUST_SECONDS`."""
        started = self._clock.monotonic()
        try:
            found = await self._board.look(self.owner)
        except LayerError as error:
            self._note_failure("cannot see what other gateways owe the document cache", error)
            return
        self._failing = False
        self._looked_at = started
        others = [each for each in found if each.owner != self.owner]
        self._others_owe_everything = any(each.namespaces is EVERYTHING for each in others)
        self._others = frozenset(name for each in others for name in each.namespaces or ())
        self.silent = tuple(each for each in others if each.is_silent)
        mine = next((each.serial for each in found if each.owner == self.owner), 0)
        if mine != self._published and self._published_at <= started:
            # Taken away by gateways that took this one for dead; or a call that failed took effect after all.
            self._ready, self._published = {}, 0
            self._may_stand = mine > 0

    async def run(self) -> None:
        """Looks; ends only by cancellation."""
        while True:
            await self.look_once()
            await self._clock.sleep(LOOK_SECONDS)

    async def publish(self, owed: tuple[str, ...] | None) -> float:
        """Tells the others. Returns: the monotonic time from which each of them knows; 0.0 when the board cannot be
        told either. One call at a time."""
        names: tuple[str | None, ...] = (EVERYTHING,) if owed is EVERYTHING else owed
        # Only while it looks is this gateway sure that the others do not take it for dead.
        before = self._ready if self.is_trusted else {}
        if not all(name in before for name in names):
            self._may_stand, serial = True, next(self._serials)
            try:
                await self._board.publish(self.owner, serial, owed)
            except LayerError as error:
                self._note_failure("cannot tell other gateways what this one owes the document cache", error)
                return 0.0
            now = self._clock.monotonic()
            if before is not self._ready:
                before = {}
            self._ready = {name: before.get(name, now + TRUST_SECONDS) for name in names}
            self._published, self._published_at = serial, now
        return max((self._ready[name] for name in names), default=0.0)

    async def withdraw(self) -> None:
        """The cache knows, or nothing is owed any more."""
        if not self._may_stand:
            return
        try:
            await self._board.withdraw(self.owner, next(self._serials))
        except LayerError as error:
            self._note_failure("cannot take back what this gateway owed the document cache", error)
        else:
            self._ready, self._published, self._may_stand = {}, 0, False

    async def remove(self, debt: OwnersDebt) -> None:
        """The cache was told what a dead gateway owed."""
        try:
            await self._board.remove(debt.owner)
        except LayerError as error:
            self._note_failure("cannot take back what a dead gateway owed the document cache", error)
        self.silent = tuple(each for each in self.silent if each != debt)

    def _note_failure(self, what: str, error: LayerError) -> None:
        if not self._failing:
            log.warning(what, extra={"reason": error.message})
        self._failing = True
