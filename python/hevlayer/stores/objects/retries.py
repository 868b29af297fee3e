"""How often a store is asked again: attempts with backoff, and a budget that all operations share."""

from hevlayer.clock import Backoff

ATTEMPTS_MAX = 4
BACKOFF = Backoff(initial_seconds=0.05, cap_seconds=1.0)
BUDGET_TOKENS = 100.0
RETRY_TOKENS = 5.0
# A first attempt that went well pays a fifth of a retry back: under a steady failure of one in six the budget holds.
REFUND_TOKENS = 1.0


class RetryBudget:
    """Stops retries where a store fails at large, so that they are never the load that keeps it down."""

    def __init__(self, tokens: float = BUDGET_TOKENS) -> None:
        self._capacity = tokens
        self.tokens = tokens

    def take(self) -> bool:
        """Pays for one retry; False when it cannot be paid."""
        if self.tokens < RETRY_TOKENS:
            return False
        self.tokens -= RETRY_TOKENS
        return True

    def refund(self) -> None:
        """An operation went well at its first attempt."""
        self.tokens = min(self._capacity, self.tokens + REFUND_TOKENS)
