"""Rate limits: token buckets by client, in bounded memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

REMEMBERED = 4096  # clients


@dataclass
class TokenBuckets:
    """Each client may take `burst` at once and `rate` per second."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    tokens: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)  # number of tokens, and when

    def take(self, client: str) -> bool:
        """Take a token; return False where there was none."""
        tokens = self._now(client)
        if tokens < 1:
            return False
        self.tokens[client] = tokens - 1, self.clock()
        self.tokens.move_to_end(client)
        if len(self.tokens) > REMEMBERED:
            self.tokens.popitem(last=False)
        return True

    def _now(self, client: str) -> float:
        tokens, then = self.tokens.get(client, (self.burst, self.clock()))
        return min(self.burst, tokens + (self.clock() - then) * self.rate)
