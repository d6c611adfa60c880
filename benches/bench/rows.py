"""What every kind of benchmark has in common: a name, the rows that it fills, and one measurement under one peer."""

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One aspect of a benchmark's measurements, as the table shows it."""

    label: str
    unit: str
    # What one unit is in the measurement's own: nanoseconds, KiB or requests a second.
    divisor: float
    # The ratio to the native run that picovisor holds itself to: at most this, or at least where more is better.
    limit: float | None = None
    # The same, as a value in the row's unit.
    absolute: float | None = None
    # The same for a program that a waiting monitor starts.
    absolute_served: float | None = None
    more_is_better: bool = False

    def goal(self):
        bound = "≥" if self.more_is_better else "≤"
        if self.limit is not None:
            return f"{bound} {self.limit:g} ×"
        if self.absolute is None:
            return ""
        served = f", served {self.absolute_served:g}" if self.absolute_served is not None else ""
        return f"{bound} {self.absolute:g}{served} {self.unit}"

    def is_met(self, value, native, is_served):
        """Whether a value keeps the limit, both in the row's unit; None if there is none, or nothing to compare with."""
        if is_served and self.absolute_served is not None:
            return value <= self.absolute_served
        if self.absolute is not None:
            return value <= self.absolute
        if self.limit is None or native is None:
            return None
        ratio = value / native
        return ratio >= self.limit if self.more_is_better else ratio <= self.limit


class Benchmark:
    """Something that can be measured under each peer, again and again."""

    def __init__(self, name, rows):
        self.name = name
        self.rows = rows

    def is_possible(self):
        """Whether this machine has what it takes, with a word to standard error if not."""
        return True

    def concerns(self, peer):
        """Whether it says something about this peer that it does not say about another."""
        return not peer.is_served

    def prepare(self):
        """Makes what the measurements need, once."""

    def measure(self, peer):
        """Returns a list with a number for each row, or None where the peer cannot run it."""
        raise NotImplementedError

    def summary(self, measurements):
        """One number of many measurements."""
        return statistics.median(measurements)
