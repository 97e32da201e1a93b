"""The memory and the work of a training step, from a dry run without weights.

The real model code runs forward, backward and the optimiser's step under a
:class:`~meadowlark.train.ledger.Ledger`, with only as many decoder layers as there are kinds of
them. Since layers of a kind are alike, their stretches put together (:func:`peak`) give a model of
any depth, with any of its layers recomputing their activations: exactly what the full depth gives
(tested), in a second.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig

from meadowlark.train.gpu_rules import HIDDEN, as_on_a_gpu
from meadowlark.train.ledger import (
    ACTIVATIONS,
    GRADIENTS,
    HEAD,
    OPTIMISER,
    PARTS,
    TEMPORARY,
    WEIGHTS,
    Bytes,
    Ledger,
    Stretch,
)
from meadowlark.train.loss import summed_loss
from meadowlark.train.model import decoder_layers
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import Pass, Samples
from meadowlark.train.prefix import Shared
from meadowlark.train.weightless import compute_dtype, lasting_tensors, weightless, weights_in

BLOCK = 512
"""PyTorch's CUDA allocator gives out multiples of this many bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one forward pass holds: the samples' lengths, and how many of the tokens are learned.

    ``shared`` has for each beginning that several samples have in common the number of further
    copies, which are not computed, and its tokens.
    """

    lengths: tuple[int, ...]
    supervised: int
    shared: tuple[tuple[int, int], ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that the pass computes."""
        return sum(self.lengths) - sum(copies * tokens for copies, tokens in self.shared)


@dataclass(frozen=True, slots=True)
class OnePass:
    """The stretches of one forward and backward; of layers one each, in the layers' order.

    The loss and its gradients are made in ``head`` (``loss.py``); ``back`` is before the layers'.
    """

    before: Stretch
    forward: tuple[Stretch, ...]
    head: Stretch
    back: Stretch
    backward: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """Parameters of a module, and the bytes of what lasts from step to step."""

    parameters: int = 0
    trained: int = 0
    weights: int = 0
    gradients: int = 0
    optimiser: int = 0

    def plus(self, other: Counted, times: int = 1) -> Counted:
        """Both together."""
        return Counted(
            *(getattr(self, f.name) + times * getattr(other, f.name) for f in fields(Counted))
        )


@dataclass(frozen=True, slots=True)
class DryRun:
    """A step of a model with a few layers, standing for one with ``len(places)`` of them.

    ``places`` says for each layer of the whole model which of the ``layers`` it is like, ``kinds``
    what those are. ``first`` is a pass with no gradients before it, ``later`` one that adds to
    them.
    """

    places: tuple[int, ...]
    kinds: tuple[Kind, ...]
    layers: tuple[Counted, ...]
    around: Counted
    first: OnePass
    later: OnePass
    step: Stretch

    def whole(self) -> Counted:
        """Parameters and lasting bytes of the whole model."""
        total = self.around
        for place in self.places:
            total = total.plus(self.layers[place])
        return total

    def at(self, config: PretrainedConfig, recompute: Sequence[bool]) -> DryRun:
        """The same for a model of which other layers recompute, all of kinds that were run."""
        wanted = _kinds(config, recompute)
        return replace(self, places=tuple(self.kinds.index(kind) for kind in wanted))

    def pass_of(self, one: OnePass) -> list[Stretch]:
        """All stretches of a pass at full depth, in order of time."""
        return [
            one.before,
            *(one.forward[place] for place in self.places),
            one.head,
            one.back,
            *(one.backward[place] for place in reversed(self.places)),
        ]

    def peak(self, passes: int, *, lasting: bool = True) -> Bytes:
        """Bytes by part at the worst moment of a step in the middle of training.

        With several ``passes`` a step, gradients are there before the second begins. Without
        ``lasting`` it is the worst moment of all but weights, their gradients and the optimiser.
        """
        whole = self.whole()
        before = np.zeros(len(PARTS), dtype=np.int64)
        before[WEIGHTS], before[OPTIMISER] = whole.weights, whole.optimiser
        after = before.copy()
        after[GRADIENTS] = whole.gradients
        counts = np.ones(len(PARTS), dtype=np.int64)
        counts[[WEIGHTS, GRADIENTS, OPTIMISER]] = lasting
        worst = counts * (after + self.step.worst)
        for one, held in ((self.first, before), (self.later, after))[: min(passes, 2)]:
            for stretch in self.pass_of(one):
                now = counts * (held + stretch.worst)
                worst = now if now.sum() > worst.sum() else worst
                held = held + stretch.net
        # Between a layer that keeps and one that recomputes, a tensor is temporary for the one and
        # an activation for the other.
        worst[ACTIVATIONS] += min(worst[TEMPORARY], 0)
        worst[TEMPORARY] = max(worst[TEMPORARY], 0)
        return worst


def dry_run(
    config: PretrainedConfig,
    options: TrainOptions,
    load: Load,
    *,
    gpu: bool,
    recompute: Sequence[bool] = (),
    every_layer: bool = False,
) -> DryRun:
    """Run a step over passes of ``load``; layer i recomputes its activations if ``recompute[i]``.

    ``every_layer`` runs the whole depth, which gives the same more slowly.
    """
    recompute = tuple(recompute) or (False,) * depth(config)
    of_layer = _kinds(config, recompute)
    kinds = of_layer if every_layer else list(dict.fromkeys(of_layer))
    chosen = [of_layer.index(kind) for kind in kinds]
    fake = FakeTensorMode()
    # A compiler keeps and moves about as much as Liger: LLaMA-7B's layers 1.3 % more in memory.
    fused = gpu and (options.run.kernels == "liger" or options.run.compile)
    model = weightless(
        _with_layers(config, chosen), options, fake, gpu=gpu, recompute=any(recompute)
    )
    model.train()
    _keep_layers(model)
    ledger = Ledger(block=BLOCK if gpu else 1, hidden=HIDDEN if gpu else None, lengths=load.lengths)
    with fake, as_on_a_gpu(model, liger=fused) if gpu else contextlib.nullcontext():
        batch = _batch(load)
        watch = Watch(ledger, model, compute_dtype(options, gpu=gpu))
        assert len(watch.layers) == len(kinds), "other layers than the configuration says"
        for layer, kind in zip(watch.layers, kinds, strict=True):
            layer.gradient_checkpointing = kind.recompute
        with ledger:
            for _ in range(2):
                watch.one_pass(batch)
            whole, parts = watch.step(options)
    first, later, step = _sorted(ledger.stretches(), len(kinds))
    around = whole
    for part in parts:
        around = around.plus(part, -1)
    places = range(len(kinds)) if every_layer else map(kinds.index, of_layer)
    return DryRun(tuple(places), tuple(kinds), parts, around, first, later, step)


# --------------------------------------------------------------------------- which layers


def depth(config: PretrainedConfig) -> int:
    """How many decoder layers a configuration has."""
    return int(config.get_text_config().num_hidden_layers)


Where = Literal["first", "between", "last"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What makes a layer differ from others: being an outer one, whether it recomputes, and the
    configuration's lists of layers."""

    where: Where
    recompute: bool
    lists: tuple[str, ...]


def _kinds(config: PretrainedConfig, recompute: Sequence[bool]) -> list[Kind]:
    """The kind of each layer. What surrounds the first and the last differs, so they do."""
    lists = list(_per_layer(config).values())
    kinds = []
    for layer, again in enumerate(recompute):
        where: Where = "between"
        if layer in (0, len(recompute) - 1):
            where = "first" if layer == 0 else "last"
        kinds.append(Kind(where, again, tuple(repr(values[layer]) for values in lists)))
    return kinds


def recomputing(layers: int, wanted: bool | int) -> tuple[bool, ...]:
    """Which layers ``run.gradient_checkpointing`` makes recompute: all, or the first so many.

    The first, whose turn comes when the others' activations are gone.
    """
    count = layers if wanted is True else int(wanted)
    return tuple(layer < count for layer in range(layers))


def _per_layer(config: PretrainedConfig) -> dict[str, list[Any]]:
    """The configuration's lists with one entry for each layer, such as ``layer_types``."""
    text = config.get_text_config()
    return {
        name: list(value)
        for name, value in vars(text).items()
        if isinstance(value, list | tuple) and len(value) == text.num_hidden_layers
    }


def _with_layers(config: PretrainedConfig, chosen: Sequence[int]) -> PretrainedConfig:
    """The configuration with only those layers."""
    changed = copy.deepcopy(config)
    text = changed.get_text_config()
    for name, values in _per_layer(config).items():
        setattr(text, name, [values[layer] for layer in chosen])
    text.num_hidden_layers = len(chosen)
    return changed


def _keep_layers(model: nn.Module) -> None:
    """No layer is left out by chance (OPT's layerdrop): the number drawn for it has no value here.
    Some versions of transformers draw it even where the chance is none."""
    for module in model.modules():
        if "layerdrop" in vars(module):
            module.training = False  # of the decoder alone: its layers go on as in training


# --------------------------------------------------------------------------- the step


def _batch(load: Load) -> Pass:
    """A pass of the right shape; its ids are nothing."""
    tokens = torch.zeros(1, load.tokens, dtype=torch.long)
    places = torch.zeros(load.supervised, dtype=torch.long)
    ends = torch.zeros(len(load.lengths) + 1, dtype=torch.int32)
    return Pass(
        input_ids=tokens,
        position_ids=tokens.clone(),
        predicting=places,
        targets=places.clone(),
        samples=Samples(list(load.lengths), ends, max(load.lengths), _shared(load)),
    )


def _shared(load: Load) -> Shared | None:
    """Places of the right number; they point nowhere."""
    if not load.shared:
        return None

    def places(*size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.long)

    whole = sum(load.lengths)
    return Shared(
        spread=places(whole),
        first=places(load.tokens),
        copies=places(whole - load.tokens),
        common=tuple(places(tokens) for _, tokens in load.shared),
        repeated=tuple(places(copies, tokens) for copies, tokens in load.shared),
    )


class Watch:
    """Runs passes and steps of a model under a ledger, marking where layers begin and end.

    ``compute`` is autocast's type. The model may be real, on any device.
    """

    def __init__(self, ledger: Ledger, model: Any, compute: torch.dtype | None) -> None:
        self.ledger, self.model, self.compute = ledger, model, compute
        self.layers = decoder_layers(model)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self._forward = False
        for tensor in lasting_tensors(model):
            ledger.hold(tensor, WEIGHTS)
        for number, layer in enumerate(self.layers):
            layer.register_forward_pre_hook(self._entering(number))
            layer.register_forward_hook(self._leaving(number))
        for parameter in self.trained:
            parameter.register_post_accumulate_grad_hook(self._gradient)

    def one_pass(self, batch: Pass) -> None:
        """Forward and backward, as ``PackedTrainer.training_step`` does them."""
        device = batch.input_ids.device.type
        self.ledger.mark("before", "forward")
        self._forward = True
        enabled = self.compute is not None
        with torch.autocast(device, self.compute, enabled=enabled, cache_enabled=False):
            loss = summed_loss(self.model, batch) / len(batch.targets)
            self._forward = False
        self.ledger.mark("back", "backward")
        # As loss.backward(), which would switch a CUDA's rules off for what is computed again.
        torch.autograd.Variable._execution_engine.run_backward(
            (loss,), (torch.ones_like(loss),), False, False, (), True, accumulate_grad=True
        )
        del loss
        self.ledger.mark("between", "between")

    def step(self, options: TrainOptions) -> tuple[Counted, tuple[Counted, ...]]:
        """Clip and step twice: the second is like all that follow. Counts model and layers.

        bitsandbytes' optimisers are counted by formula: they work in place, and on a GPU only.
        """
        optimiser = torch.optim.AdamW(self.trained, lr=1e-5, fused=True)
        state: dict[int, int] = {}
        for name in ("first step", "step"):
            self.ledger.mark(name, "step")
            torch.nn.utils.clip_grad_norm_(self.trained, options.optimiser.max_grad_norm)
            if options.optimiser.name == "adamw":
                optimiser.step()
                for parameter in self.trained:
                    kept = list(optimiser.state[parameter].values())
                    for tensor in kept:
                        self.ledger.hold(tensor, OPTIMISER)
                    state[id(parameter)] = sum(self._size(tensor) for tensor in kept)
        self.ledger.mark("after", "after")
        for embedding in self.model.modules():
            if isinstance(embedding, nn.Embedding):
                name_, size = options.optimiser.name, embedding.weight.numel()
                state.setdefault(id(embedding.weight), optimiser_bytes(size, name_, table=True))
        for parameter in self.trained:
            size = optimiser_bytes(parameter.numel(), options.optimiser.name)
            state.setdefault(id(parameter), size)
        whole = self._count(self.model, state)
        return whole, tuple(self._count(layer, state) for layer in self.layers)

    def _count(self, module: nn.Module, state: dict[int, int]) -> Counted:
        weights = {t.untyped_storage()._cdata: self._size(t) for t in lasting_tensors(module)}
        parameters = list(module.parameters())
        trained = [p for p in parameters if p.requires_grad]
        return Counted(
            parameters=sum(map(weights_in, parameters)),
            trained=sum(p.numel() for p in trained),
            weights=sum(weights.values()),
            gradients=sum(self._size(p.grad) for p in trained if p.grad is not None),
            optimiser=sum(state[id(p)] for p in trained),
        )

    def _size(self, tensor: torch.Tensor) -> int:
        return self.ledger.rounded(tensor.untyped_storage().nbytes())

    def _gradient(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        self.ledger.hold(parameter.grad, GRADIENTS)

    def _entering(self, number: int) -> Any:
        def enter(module: nn.Module, inputs: Any) -> None:
            if self._forward:
                self.ledger.mark(f"forward {number}", "forward")

        return enter

    def _leaving(self, number: int) -> Any:
        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            if not self._forward:
                return  # recomputed in backward
            hidden = output[0] if isinstance(output, tuple) else output
            hidden.register_hook(lambda _: self.ledger.mark(f"backward {number}", "backward"))
            if number == len(self.layers) - 1:
                self.ledger.mark(HEAD, "forward")

        return leave


def optimiser_bytes(elements: int, name: str, *, table: bool = False) -> int:
    """Bytes of bitsandbytes' AdamW state for one tensor.

    Two moments in float32, or in 8 bits with a float32 scale for each block of 256; in float32
    still for a tensor of fewer than 4,096 elements, and for embedding tables (transformers).
    """
    if name.endswith("8bit") and elements >= 4096 and not table:
        return 2 * (elements + 4 * -(-elements // 256))
    return 2 * 4 * elements


def _sorted(stretches: Sequence[Stretch], layers: int) -> tuple[OnePass, OnePass, Stretch]:
    """The stretches of two passes and of the second step."""
    length = 2 * layers + 3
    passes = []
    for begin in [number for number, s in enumerate(stretches) if s.name == "before"]:
        inside = stretches[begin : begin + length]
        backward = tuple(reversed(inside[layers + 3 :]))
        assert [s.name for s in backward] == [f"backward {n}" for n in range(layers)]
        forward = tuple(inside[1 : layers + 1])
        head, back = inside[layers + 1 : layers + 3]
        passes.append(OnePass(inside[0], forward, head, back, backward))
    (step,) = [s for s in stretches if s.name == "step"]
    return passes[0], passes[1], step
