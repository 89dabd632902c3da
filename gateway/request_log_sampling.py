"""Which requests are logged. No IO here.

A model's requests are counted down to the next one that is logged. The distances are drawn from the
geometric distribution, so that each request is logged with the same probability, independently of
all others: traffic with a rhythm of its own is not met always in the same beat.
"""

from __future__ import annotations

import math
from random import Random

NEVER = 2**62


class MinuteBudget:
    """Allows so many in any 60 seconds, spread over them: a token bucket.

    The bucket holds a sixth of the number and the rest is refilled evenly, so that the bucket and
    what is refilled in 60 seconds together never exceed the number.

    Args:
        most: in any 60 seconds; 0 for no limit.
        now: seconds, of a clock that never goes back.
    """

    __slots__ = ("_last", "_per_second", "_size", "_tokens", "is_limited")

    def __init__(self, most: int, now: float) -> None:
        self.is_limited = most > 0
        self._size = max(most / 6, 1.0)
        self._per_second = max(most - self._size, 0.5) / 60.0
        self._tokens = self._size
        self._last = now

    def take(self, now: float) -> bool:
        """True if one more is allowed now."""
        if not self.is_limited:
            return True
        self._tokens = min(self._tokens + (now - self._last) * self._per_second, self._size)
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Sampler:
    """The countdown of one model.

    Args:
        rate: probability of each answered request to be logged.
        most: in any 60 seconds, answered and failed ones each; 0 for no limit.
        random: draws the distances.
        now: seconds, of a clock that never goes back.

    Attributes:
        left: requests until the next one that is due; count it down and call `due` at 0.
        rate: as above.
        errors: the budget of failed requests.
    """

    __slots__ = ("_answers", "_random", "_scale", "errors", "left", "rate")

    def __init__(self, rate: float, most: int, random: Random, now: float) -> None:
        self.rate = rate
        self._random = random
        self._scale = 0.0 if rate in (0.0, 1.0) else 1.0 / math.log1p(-rate)
        self._answers = MinuteBudget(most, now)
        self.errors = MinuteBudget(most, now)
        self.left = self._distance()

    def due(self, now: float) -> bool:
        """True if the request at which the countdown has ended is logged; counts down anew."""
        self.left = self._distance()
        return self.rate > 0.0 and self._answers.take(now)

    def _distance(self) -> int:
        if not self._scale:
            return 1 if self.rate else NEVER
        # 1 - random() is in (0, 1]; the distance is 1 or more.
        return 1 + min(int(math.log(1.0 - self._random.random()) * self._scale), NEVER)
