"""An answer's text while its tokens arrive: which of it can be shown already.

Tokens go in, pieces of text come out, and the pieces add up to what the whole decodes to. A
character of which only some bytes are there waits for the others; what may turn out to begin a stop
string waits until it does or does not. Only the newest tokens are decoded again at each step, so
that a long answer costs no more a token than a short one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"


class Unfolding:
    """The text of one answer. ``stopped`` says that a stop string ended it.

    ``decode`` turns ids into text; ``stop`` are the strings before which the text ends.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode, self._stop = decode, tuple(stop)
        self.ids: list[int] = []
        self.stopped = False
        self._seen = ""  # the text of all ids up to _read
        self._shown = 0
        self._begin = self._read = 0

    def add(self, token: int) -> str:
        """Take one token; the text that can be shown since the last piece, often none."""
        self.ids.append(token)
        before = self._decode(self.ids[self._begin : self._read])
        after = self._decode(self.ids[self._begin :])
        if after.endswith(INCOMPLETE) or not after.startswith(before):
            return ""
        self._seen += after[len(before) :]
        self._begin, self._read = self._read, len(self.ids)
        return self._show(held_back(self._seen, self._stop))

    def end(self) -> str:
        """What was held back, once there are no more tokens."""
        whole = self._decode(self.ids)
        if not whole.startswith(self._seen[: self._shown]):
            return ""
        self._seen = whole
        return self._show(0)

    def text(self) -> str:
        """All of the answer so far, as it decodes in one go, up to a stop string."""
        whole = self._decode(self.ids)
        return whole[: _end_of(whole, self._stop)]

    def _show(self, held: int) -> str:
        end = _end_of(self._seen, self._stop)
        self.stopped = end < len(self._seen) or self.stopped
        upto = end if self.stopped else len(self._seen) - held
        piece = self._seen[self._shown : upto]
        self._shown = max(self._shown, upto)
        return piece


def _end_of(text: str, stop: Sequence[str]) -> int:
    """Where the first stop string begins, or the text's length."""
    return min([at for s in stop if (at := text.find(s)) >= 0], default=len(text))


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end may be the beginning of a stop string."""
    longest = 0
    for string in stop:
        for size in range(min(len(string) - 1, len(text)), longest, -1):
            if text.endswith(string[:size]):
                longest = size
                break
    return longest
