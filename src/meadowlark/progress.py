"""Progress of long work, with a rate and the time left, on a terminal or in a log file.

On a terminal a live bar is drawn on standard error; elsewhere a line is written every ten seconds,
so that a log of a night's run stays readable.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LOG_INTERVAL_S = 10.0

console = Console(stderr=True)


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``, ``4000`` as ``1 h 06 min``, ``0.42`` as ``0.4 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def usd(amount: float) -> str:
    """Dollars to the cent, small sums to a hundredth of one: ``12.50``, ``0.0042``."""
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"


def plural(n: int, one: str, many: str = "") -> str:
    """``1 row``, ``12,345 rows``; ``many`` where that is not ``one`` with an s."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


class Progress:
    """A context that counts work done: ``advance(n, note)``. ``total`` may be unknown (None)."""

    def __init__(self, label: str, total: int | None = None, unit: str = "rows") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.note = ""
        self._start = self._logged = time.monotonic()
        self._resumed = 0
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Bar(*columns, console=console)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, rate="", note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def skip(self, n: int) -> None:
        """Count ``n`` more that an earlier run had done, without letting them into the rate."""
        self._resumed += n
        self.done += n

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Count ``n`` more done; ``note`` is shown behind the time left (a loss, a cost)."""
        self.done += n
        if note is not None:
            self.note = note
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=self._rate(), note=self.note)
        elif time.monotonic() - self._logged >= LOG_INTERVAL_S:
            self._logged = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def per_second(self) -> float:
        """The rate of this run, without what an earlier one had done."""
        return (self.done - self._resumed) / max(time.monotonic() - self._start, 1e-9)

    def _rate(self) -> str:
        rate = self.per_second()
        return f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2f} {self.unit}/s"

    def _line(self) -> str:
        of = f"/{self.total:,}" if self.total is not None else ""
        line = f"{self.label}: {self.done:,}{of} {self.unit}, {self._rate()}"
        if self.total is not None and self.per_second() > 0:
            line += f", {duration((self.total - self.done) / self.per_second())} left"
        return f"{line}  {self.note}".rstrip()
