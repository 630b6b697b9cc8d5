"""How much one client may ask for: token buckets by name, in bounded memory."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

REMEMBERED = 4096  # clients


@dataclass
class Buckets:
    """Each name may take `burst` at once and `rate` per second."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)  # tokens and when

    def holds(self, name: str) -> bool:
        """Whether there is something left for the name."""
        return self._now(name) >= 1

    def take(self, name: str) -> bool:
        """Takes one; False where there was none."""
        tokens = self._now(name)
        if tokens < 1:
            return False
        self.left[name] = tokens - 1, self.clock()
        self.left.move_to_end(name)
        if len(self.left) > REMEMBERED:
            self.left.popitem(last=False)
        return True

    def _now(self, name: str) -> float:
        tokens, then = self.left.get(name, (self.burst, self.clock()))
        return min(self.burst, tokens + (self.clock() - then) * self.rate)
