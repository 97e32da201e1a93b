"""What a training step allocates and computes, watched operation by operation while it runs.

A :class:`Ledger` sees every tensor's birth and death, on real tensors or on fake ones without
memory, and keeps for each stretch of the step (a decoder layer's forward, its backward, the head)
what it leaves behind, what it holds at its worst, by part, and what it computes. It knows no
formula for an activation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

PARTS = ("weights", "gradients", "optimiser", "copies", "activations", "logits", "temporary")
"""``copies`` are 16-bit copies of float32 weights, kept until their layer's backward; ``logits`` is
all that is made between the last layer and the loss; ``temporary`` what goes within its stretch,
and what backward makes besides gradients of weights."""

WEIGHTS, GRADIENTS, OPTIMISER, COPIES, ACTIVATIONS, LOGITS, TEMPORARY = range(len(PARTS))
DONE, NEEDED, MOVED, QUADRATIC = range(4)
"""Of an operation: matrix FLOPs done, those of them that the model's mathematics needs, bytes read
and written, and whether it is attention, whose FLOPs grow with the square of a sample's length."""

HEAD = "head"

Bytes = npt.NDArray[np.int64]
"""Bytes by part, in the order of :data:`PARTS`."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stretch of a step: bytes it adds for good, bytes above its start at its worst, its work.

    ``work`` has a row for each operation, in the columns :data:`DONE` to :data:`QUADRATIC`.
    """

    name: str
    net: Bytes
    worst: Bytes
    work: npt.NDArray[np.float64]


@dataclass(slots=True)
class _Storage:
    size: int
    phase: str
    part: int | None
    born: int
    died: int | None = None


@dataclass(slots=True)
class _Mark:
    name: str
    phase: str
    event: int
    operation: int


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches storages come and go while it is active; ``block`` is the allocator's granularity.

    ``hold`` says what part a tensor belongs to; what nobody claims is told by when it was made.
    ``hidden`` says by an operation's name and from its arguments what its kernel allocates inside,
    which no operation shows. ``lengths`` are those of the samples that packed attention keeps
    apart.
    """

    def __init__(
        self,
        *,
        block: int = 1,
        hidden: Mapping[str, Callable[[Any], int]] | None = None,
        lengths: Sequence[int] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.block, self.hidden, self.lengths = block, hidden or {}, lengths
        self._storages: list[_Storage] = []
        self._events: list[tuple[int, int]] = []  # (+1 or -1, index of the storage)
        self._live: dict[int, tuple[weakref.ref[Any], int]] = {}
        self._weights: set[int] = set()
        self._work: list[tuple[float, float, float, bool]] = []
        self._marks = [_Mark("outside", "outside", 0, 0)]

    def mark(self, name: str, phase: str) -> None:
        """Begin a stretch; ``phase`` is forward, backward or step."""
        self._marks.append(_Mark(name, phase, len(self._events), len(self._work)))

    def hold(self, tensor: torch.Tensor, part: int) -> None:
        """Say what a tensor is part of; one that was not seen yet is born now."""
        storage = tensor.untyped_storage()
        known = self._live.get(storage._cdata)
        index = known[1] if known else self._born(storage)
        self._storages[index].part = part
        if part == WEIGHTS:
            self._weights.add(index)

    def rounded(self, size: int) -> int:
        """The bytes that the allocator gives for so many."""
        return -(-size // self.block) * self.block

    def stretches(self) -> list[Stretch]:
        """What happened between the marks, in order."""
        held = self._held()
        work = np.array(self._work, dtype=np.float64).reshape(-1, 4)
        ends = [*self._marks[1:], _Mark("", "", len(self._events), len(self._work))]
        found = []
        for begin, end in zip(self._marks, ends, strict=True):
            inside = held[begin.event : end.event + 1] - held[begin.event]
            worst = inside[int(inside.sum(axis=1).argmax())]
            rows = work[begin.operation : end.operation]
            found.append(Stretch(begin.name, inside[-1], worst, rows))
        return found

    def _held(self) -> npt.NDArray[np.int64]:
        """Bytes by part before the first event and after each."""
        changes = np.zeros((len(self._events) + 1, len(PARTS)), dtype=np.int64)
        parts = [self._part(storage) for storage in self._storages]
        for row, (sign, index) in enumerate(self._events, start=1):
            changes[row, parts[index]] = sign * self._storages[index].size
        return changes.cumsum(axis=0)

    def _part(self, storage: _Storage) -> int:
        if storage.part is not None:
            return storage.part
        if storage.phase == HEAD:
            return LOGITS
        if storage.phase != "forward":
            return TEMPORARY
        later = (m.event for m in self._marks if m.phase == "backward" and m.event >= storage.born)
        outlives = storage.died is None or storage.died >= next(later, len(self._events))
        return ACTIVATIONS if outlives else TEMPORARY

    # ------------------------------------------------------------------ watching

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        fresh = False
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._live:
                index = self._born(storage)
                fresh = True
                if func is torch.ops.aten._to_copy.default and self._is_weight(args[0]):
                    self._storages[index].part = COPIES
        if fresh or func._schema.is_mutable:
            taken = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            self._account(func, args, kwargs or {}, taken, made)
        return out

    def _is_weight(self, tensor: Any) -> bool:
        known = self._live.get(tensor.untyped_storage()._cdata)
        return known is not None and known[1] in self._weights

    def _born(self, storage: Any) -> int:
        size = self.rounded(storage.nbytes())
        index = len(self._storages)
        mark = self._marks[-1]
        phase = HEAD if mark.name == HEAD else mark.phase
        self._storages.append(_Storage(size, phase, None, len(self._events)))
        self._events.append((1, index))
        key = storage._cdata
        self._live[key] = (weakref.ref(storage, lambda _: self._gone(key, index)), index)
        return index

    def _gone(self, key: int, index: int) -> None:
        self._storages[index].died = len(self._events)
        self._events.append((-1, index))
        if key in self._live and self._live[key][1] == index:
            del self._live[key]

    def _account(
        self, func: Any, args: Any, kwargs: Any, taken: list[torch.Tensor], made: list[torch.Tensor]
    ) -> None:
        name = func._schema.name
        inside = self.hidden[name](args) if name in self.hidden else 0
        if inside:
            index = len(self._storages)
            self._storages.append(
                _Storage(self.rounded(inside), "kernel", TEMPORARY, len(self._events))
            )
            self._events += [(1, index), (-1, index)]
        if name in NOTHING_MOVED:
            return
        written = sum(map(_extent, made if made else _written(func, args)))
        read = written if name in PICKS else sum(map(_extent, taken))
        done, needed = _matrix_flops(func, args, kwargs, made, self.lengths)
        self._work.append((done, needed, read + written + 2.0 * inside, name in ATTENTION))


NOTHING_MOVED = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}
PICKS = {"aten::embedding", "aten::index_select", "aten::index", "aten::gather"}
"""Operations that read as much as they write, however large what they pick from."""


def _written(func: Any, args: Any) -> list[torch.Tensor]:
    """The tensors that an operation without a result writes into."""
    changed = [
        arg
        for argument, arg in zip(func._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    return [leaf for leaf in tree_leaves(changed) if isinstance(leaf, torch.Tensor)]


def _extent(tensor: torch.Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


# --------------------------------------------------------------------------- FLOPs


def _matrix_flops(
    func: Any, args: Any, kwargs: Any, made: list[torch.Tensor], lengths: Sequence[int]
) -> tuple[float, float]:
    """Matrix FLOPs done, and needed: attention's backward also makes its scores once more."""
    name = func._schema.name
    if name in ATTENTION:
        backward = ATTENTION[name]
        query = args[1] if backward else args[0]
        forward = 4.0 * _heads_width(query) * _pairs(func, args, lengths)
        return (2.5 * forward, 2.0 * forward) if backward else (forward, forward)
    formula = flop_registry.get(func._overloadpacket)
    if formula is None:
        return 0.0, 0.0
    flops = float(formula(*args, **kwargs, out_val=made[0]))
    return flops, flops


ATTENTION = {
    "torch_attn::_varlen_attn": False,
    "torch_attn::_varlen_attn_backward": True,
    "aten::_scaled_dot_product_flash_attention_for_cpu": False,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": True,
}
"""Attention kernels by name, and whether each is a backward one."""


def _heads_width(query: torch.Tensor) -> int:
    """Heads times width of a head: (T, heads, d) in a packed call, (1, heads, T, d) elsewhere."""
    heads = query.shape[-2] if query.dim() == 3 else query.shape[1]
    return int(heads * query.shape[-1])


def _pairs(func: Any, args: Any, lengths: Sequence[int]) -> float:
    """How many pairs of a token and itself or an earlier one an attention call looks at."""
    query = args[1] if ATTENTION[func._schema.name] else args[0]
    if query.dim() == 4:
        return float(_seen(query.shape[2], None) * query.shape[0])
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False))
    window = given.get("window_size")
    before = window[0] if window and window[0] >= 0 else None
    return float(sum(_seen(length, before) for length in lengths))


def _seen(length: int, before: int | None) -> float:
    """Pairs within one causal sample whose tokens look ``before`` tokens back at most."""
    if before is None or before >= length:
        return length * (length + 1) / 2
    return (before + 1) * (before + 2) / 2 + (length - before - 1) * (before + 1)
