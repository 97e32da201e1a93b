"""Many conversations answered together by one local model: a request joins the batch in flight.

Prompts of token ids go in from any thread, each with its own sampling; new tokens come out one by
one, through a call for each. A new request's prompt is read by itself and its keys and values are
put beside those of the others, left-padded, so that every step makes one token for everybody and
nobody waits for another's answer to end (iteration-level scheduling: Yu et al. 2022, "Orca"). Rows
draw from generators of their own, so an answer does not depend on who shares its batch but for the
last bits of the logits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meadowlark.llm.chat import FinishReason, Sampling
from meadowlark.llm.local import TransformersModel, _pick, _Reply

if TYPE_CHECKING:
    import torch

MOST_ROWS_ON_CPU, MOST_ROWS_ON_GPU = 64, 256
Deliver = Callable[["int | FinishReason | Exception"], None]
"""Gets each token as it is made, then why the answer ended, or what went wrong instead."""


@dataclass(eq=False, slots=True)
class Ticket:
    """One request at work. ``cancelled`` may be set at any time: no more comes for it."""

    row: _Reply
    sampling: Sampling
    deliver: Deliver
    cancelled: bool = False

    @property
    def width(self) -> int:
        """Tokens of the prompt, of the answer so far, and that the answer may still get."""
        return len(self.row.prompt) + self.row.room


class Continuous:
    """The batch of one model, in a thread of its own; made once, closed at the end.

    ``most_at_once`` bounds its rows, beside the memory for keys and values. ``steps`` and
    ``most_rows`` count forward passes and the rows of the fullest one.
    """

    def __init__(self, model: TransformersModel) -> None:
        self.model = model
        on_cpu = model.device.type == "cpu"
        self.most_at_once = MOST_ROWS_ON_CPU if on_cpu else MOST_ROWS_ON_GPU
        self.steps = self.most_rows = 0
        self._waiting: deque[Ticket] = deque()
        self._active: list[Ticket] = []
        self._state: dict[str, Any] = {}
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, prompt: list[int], sampling: Sampling, deliver: Deliver) -> Ticket:
        """Queue a prompt; ``deliver`` is called from the model's thread.

        A prompt that leaves no room in the context ends by ``length`` at once.
        """
        ticket = Ticket(self.model._row(prompt, sampling, draw=0), sampling, deliver)
        if ticket.row.room <= 0:
            deliver("length")
            return ticket
        with self._change:
            if self._closed:
                raise RuntimeError("the model is closed")
            self._waiting.append(ticket)
            self._change.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Take a request out, whether it waits or is at work; the others notice nothing."""
        with self._change:
            ticket.cancelled = True
            self._change.notify()

    @property
    def waiting(self) -> int:
        """How many requests have not begun."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """How many requests are in the batch."""
        return len(self._active)

    @property
    def alive(self) -> bool:
        """Whether the thread is there to answer."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread after its step; what is not answered by then fails."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        for ticket in [*self._active, *self._waiting]:
            ticket.deliver(RuntimeError("the server stops"))
        self._active, self._state = [], {}
        self._waiting.clear()

    # ----- the thread

    def _work(self) -> None:
        while True:
            with self._change:
                while not (self._waiting or self._active or self._closed):
                    self._change.wait()
                if self._closed:
                    return
                self._waiting = deque(t for t in self._waiting if not t.cancelled)
                joining = self._admitted()
            self._keep([i for i, ticket in enumerate(self._active) if not ticket.cancelled])
            try:
                if self._active:
                    self._step()
            except Exception as error:  # no memory, say: the thread lives, and answers the next
                self._fail(error)
            if joining:
                self._join(joining)

    def _fail(self, error: Exception) -> None:
        """Tell everybody in the batch, and begin anew with an empty one."""
        failed, self._active, self._state = self._active, [], {}
        for ticket in failed:
            ticket.deliver(error)

    def _admitted(self) -> list[Ticket]:
        """Those that can join now, in the order of asking: the batch must hold all to their end.

        No more prompts are read at once than the device needs to work at its best: who asked first
        gets a token before the prompts of the last are read, and those at work go on in between.
        """
        if self._active and not self._can_join():
            return []
        joining: list[Ticket] = []
        widest = max((ticket.width for ticket in self._active), default=0)
        while self._waiting:
            longest = max(len(ticket.row.prompt) for ticket in [*joining, self._waiting[0]])
            widest = max(widest, self._waiting[0].width)
            rows = len(self._active) + len(joining) + 1
            if rows > 1 and (rows > self.most_at_once or rows * widest > self.model.cache_tokens):
                break
            if joining and (len(joining) + 1) * longest > self.model.enough_tokens:
                break
            joining.append(self._waiting.popleft())
        return joining

    def _can_join(self) -> bool:
        """Keys and values that slide out of a window do not lie at the same place in all rows."""
        from transformers.cache_utils import DynamicLayer

        return all(type(layer) is DynamicLayer for layer in self._state["cache"].layers)

    def _join(self, joining: list[Ticket]) -> None:
        """Read the prompts of new requests, give them their first token, and take them in."""
        state: dict[str, Any] = {}
        try:
            self._deliver(joining, self._forward(joining, state))
        except Exception as error:  # these alone fail
            for ticket in joining:
                ticket.deliver(error)
            return
        keep = [i for i, ticket in enumerate(joining) if ticket.row.finish is None]
        if not keep:
            return
        had = bool(self._active)
        self._active += [joining[i] for i in keep]
        try:
            if len(keep) < len(joining):
                self.model._select(state, keep)
            if had:
                _put_beside(self._state, state)
            else:
                self._state = state
        except Exception as error:  # half put together: nobody's keys are where they should be
            self._fail(error)

    def _step(self) -> None:
        """One more token for everybody; who has ended leaves."""
        tickets = self._active
        self._deliver(tickets, self._forward(tickets, self._state))
        self._keep([i for i, ticket in enumerate(tickets) if ticket.row.finish is None])

    def _forward(self, tickets: Sequence[Ticket], state: dict[str, Any]) -> torch.Tensor:
        self.steps += 1
        self.most_rows = max(self.most_rows, len(tickets))
        return self.model._logits([ticket.row for ticket in tickets], state)

    def _deliver(self, tickets: Sequence[Ticket], logits: torch.Tensor) -> None:
        import torch

        groups: dict[Sampling, list[int]] = {}
        for index, ticket in enumerate(tickets):
            groups.setdefault(ticket.sampling, []).append(index)
        chosen = [0] * len(tickets)
        with torch.inference_mode():
            for sampling, rows in groups.items():
                of_group = [tickets[i].row for i in rows]
                tokens = _pick(logits[rows].float(), sampling, of_group)
                for index, token in zip(rows, tokens, strict=True):
                    chosen[index] = token
        for ticket, token in zip(tickets, chosen, strict=True):
            self.model._add(ticket.row, token, Sampling())  # who shows the text looks for stops
            if ticket.cancelled:
                continue
            ticket.deliver(token)
            if ticket.row.finish is not None:
                ticket.deliver(ticket.row.finish)

    def _keep(self, keep: list[int]) -> None:
        """Drop the rows that are not kept, and the padding that nobody needs any more."""
        if len(keep) == len(self._active):
            return
        self._active = [self._active[i] for i in keep]
        if not self._active:
            self._state = {}
            return
        self.model._select(self._state, keep)
        if self._can_join():
            first = int(self._state["mask"].any(0).nonzero()[0])
            self._state["mask"] = self._state["mask"][:, first:]
            for layer in self._state["cache"].layers:
                layer.keys = layer.keys[..., first:, :]
                layer.values = layer.values[..., first:, :]


def _put_beside(state: dict[str, Any], other: dict[str, Any]) -> None:
    """Rows of ``other`` behind those of ``state``, both left-padded to the wider one."""
    import torch

    width = max(state["mask"].shape[-1], other["mask"].shape[-1])

    def together(a: torch.Tensor, b: torch.Tensor, axis: int) -> torch.Tensor:
        after = (0, 0) * (-axis - 1)
        padded = [torch.nn.functional.pad(x, (*after, width - x.shape[axis], 0)) for x in (a, b)]
        return torch.cat(padded)

    with torch.inference_mode():
        state["mask"] = together(state["mask"], other["mask"], -1)
        for mine, theirs in zip(state["cache"].layers, other["cache"].layers, strict=True):
            mine.keys = together(mine.keys, theirs.keys, -2)
            mine.values = together(mine.values, theirs.values, -2)
