"""Models in this process: a Hugging Face checkpoint that generates and gives likelihoods.

Only safetensors are loaded and no remote code is run. Prompts are chat turns, rendered as
``llm.prompter`` says. Likelihoods follow PEERS.md, section 3 ("Multiple choice by
log-likelihood"): context and continuation are tokenised together and split at the context.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from meadowlark.errors import UserError
from meadowlark.llm.adapters import put_on
from meadowlark.llm.chat import ChatReply, ChatRequest, FinishReason, Sampling
from meadowlark.llm.prices import FREE, Price
from meadowlark.llm.prompter import Prompter, cannot_load, open_prompter, parts_of
from meadowlark.llm.rates import Limits
from meadowlark.llm.unfolding import Unfolding
from meadowlark.records import Turn

if TYPE_CHECKING:
    import torch

    from meadowlark.llm.likelihood import Query, Shared

CACHE_BYTES_ON_CPU = 4 << 30
MOST_TOKENS_ON_CPU, MOST_TOKENS_IN_A_BATCH = 8_192, 65_536
ENOUGH_TOKENS_ON_CPU, ENOUGH_TOKENS_ON_GPU = 512, 4_096
"""Positions in a pass from which a device gains little by more of them."""

LEAST_FILLED = 0.9
MOST_ROWS_ON_CPU, MOST_ROWS_ON_GPU = 32, 256
Quantised = Literal["int8", "nf4"]


def open_local(
    reference: str,
    template: str | None = None,
    *,
    plain: bool = False,
    context_length: int | None = None,
    quantise: Quantised | None = None,
) -> TransformersModel:
    """Load a checkpoint: bfloat16 on a GPU that has it, else float16 there; float32 on a CPU.

    One whose configuration says that it is quantised (int8, NF4) stays so, through bitsandbytes;
    ``quantise`` has the linear layers of another one put so as it is loaded, with the settings by
    which ``train`` holds a frozen base. ``context_length`` lowers the checkpoint's own bound on
    prompt and answer together; ``plain`` needs no template (:func:`llm.prompter.open_prompter`).
    """
    import torch
    import transformers

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    prompter = open_prompter(reference, template, plain=plain)
    parts = parts_of(reference)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = precision_of(device)
    logs: Any = transformers.utils.logging
    logs.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # else a line a layer, on a CPU
    how = {} if quantise is None else {"quantization_config": _quantisation(quantise, dtype)}
    try:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            parts.base, dtype=dtype, use_safetensors=True, trust_remote_code=False, **how
        )
    except (OSError, ValueError) as error:
        raise cannot_load(parts.base, error) from None
    except ImportError as error:
        if "bitsandbytes" in str(error):  # a quantised checkpoint
            raise ModuleNotFoundError(str(error), name="bitsandbytes") from None
        raise
    if parts.adapter is not None:  # not merged, so that half precision loses nothing
        _make_room(model, parts.adapter, len(prompter.tokenizer))
        model = put_on(model, parts.adapter).get_base_model()
    model = model.to(device).eval()
    return TransformersModel(model, prompter, reference, context_length)


def precision_of(device: torch.device) -> torch.dtype:
    """What a model computes in there, on whichever engine."""
    import torch

    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _quantisation(kind: Quantised, compute: torch.dtype) -> Any:
    """bitsandbytes' settings of LLM.int8() or of QLoRA's NF4, computing in ``compute``."""
    import transformers

    configuration: Any = transformers.BitsAndBytesConfig
    if kind == "int8":
        return configuration(load_in_8bit=True, llm_int8_threshold=6.0)
    return configuration(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _precision(model: Any) -> str:
    """The type of the weights, and how those of the linear layers are quantised."""
    dtype = str(model.dtype).removeprefix("torch.")
    made = getattr(model.config, "quantization_config", None)
    if made is None:
        return dtype
    made = made if isinstance(made, dict) else made.to_dict()
    kind = made.get("bnb_4bit_quant_type") if made.get("load_in_4bit") else "int8"
    return (
        f"{dtype}, {kind if made.get('quant_method') == 'bitsandbytes' else made['quant_method']}"
    )


def _make_room(model: Any, adapter: str, tokens: int) -> None:
    """Embeddings for all ``tokens``, where an adapter was trained with added ones."""
    import peft

    try:
        embeddings = peft.PeftConfig.from_pretrained(adapter).modules_to_save
    except (OSError, ValueError):
        return  # putting it on says what is wrong
    if embeddings and tokens > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(tokens, mean_resizing=False)


# --------------------------------------------------------------------------- the model


@dataclass(slots=True)
class _Reply:
    """One answer in the making. ``room`` is how many tokens may still be added in all."""

    prompt: list[int]
    room: int
    chance: random.Random
    new: list[int] = field(default_factory=list)
    finish: FinishReason | None = None


class TransformersModel:
    """A loaded checkpoint: a ``LocalModel`` and, one request at a time, a ``ChatModel``.

    Made by :func:`open_local`. ``max_rows`` bounds a batch; ``batch_tokens`` is what a batch may
    hold, padding and room for answers included. Both are the same on every run on one machine, so
    that a batch, and with it the last bits of every number, does not depend on memory in use.
    """

    endpoint = "local"
    price: Price | None = FREE
    limits = Limits(concurrency=1)

    def __init__(
        self, model: Any, prompter: Prompter, reference: str, context_length: int | None = None
    ) -> None:
        self.model, self.prompter, self.name = model, prompter, reference
        self.device: torch.device = model.device
        self.dtype = _precision(model)
        own = int(getattr(model.config, "max_position_embeddings", 0)) or 1 << 30
        self.context_length = min(own, context_length or own)
        self.cache_tokens = _cache_tokens(model)
        on_cpu = self.device.type == "cpu"
        bound = MOST_TOKENS_ON_CPU if on_cpu else MOST_TOKENS_IN_A_BATCH
        self.batch_tokens = max(min(self.cache_tokens, bound), 512)
        self.max_rows = MOST_ROWS_ON_CPU if on_cpu else MOST_ROWS_ON_GPU
        self.enough_tokens = ENOUGH_TOKENS_ON_CPU if on_cpu else ENOUGH_TOKENS_ON_GPU
        self._eos = _eos_ids(model, prompter.tokenizer)
        self._one_at_a_time = Lock()

    def describe(self) -> dict[str, Any]:
        """What numbers depend on, for a manifest: template, precision, device, batch size."""
        return {
            "template": self.prompter.template_from,
            "dtype": self.dtype,
            "device": self._device_name(),
            "context_length": self.context_length,
            "batch_tokens": self.batch_tokens,
            "max_rows_in_a_batch": self.max_rows,
        }

    def _device_name(self) -> str:
        import torch

        return "cpu" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)

    def prompt_lengths(self, prompts: Sequence[Sequence[Turn]]) -> list[int]:
        """How many tokens each prompt has, BOS included."""
        return [len(ids) for ids in self._encode(prompts)]

    def batches(
        self, lengths: Sequence[int], shared: int = 0, *, padded: bool = True
    ) -> list[list[int]]:
        """Indices of rows in batches, longest first, within ``batch_tokens`` and ``max_rows``.

        ``lengths`` are in tokens, the room for answers included. Rows of one length keep order.
        ``shared`` tokens before every row are computed once, but cached for each. Where a row costs
        its width once and not step by step, ``padded`` False leaves rows that would be padded much
        to the next batch, once a batch is large enough for the device to work at its best.
        """
        most = self.cache_tokens
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        made: list[list[int]] = []
        for index in order:
            rows = len(made[-1]) + 1 if made else 0
            longest = lengths[made[-1][0]] if made else 0
            fits = rows * longest <= self.batch_tokens and rows * (longest + shared) <= most
            enough = not padded and (rows - 1) * longest >= self.enough_tokens
            if enough and lengths[index] < LEAST_FILLED * longest:
                fits = False
            if made and rows <= self.max_rows and fits:
                made[-1].append(index)
            else:
                made.append([index])
        return made

    def _encode(self, prompts: Sequence[Sequence[Turn]]) -> list[list[int]]:
        return self.prompter.encode([self.prompter.render(turns) for turns in prompts])

    # ----- generation

    def generate(self, prompts: Sequence[Sequence[Turn]], sampling: Sampling) -> list[ChatReply]:
        """One reply for each prompt, in order.

        Greedy when the temperature is None or 0. Otherwise each row draws from a generator seeded
        by ``sampling.seed`` (None is 0) and its own prompt, so that a reply does not depend on
        which rows share its batch (but for the last bits of the logits). A prompt that leaves no
        room in the context gives an empty reply that finished by ``length``.
        """
        rows = [self._row(ids, sampling, draw=0) for ids in self._encode(prompts)]
        for batch in self.batches([len(row.prompt) + row.room for row in rows]):
            for _ in self._decode([rows[i] for i in batch], sampling):
                pass
        return [self._finished(row, sampling) for row in rows]

    def stream(self, turns: Sequence[Turn], sampling: Sampling) -> Iterator[str]:
        """The reply to one conversation, piece by piece as it is generated."""
        row = self._row(self._encode([turns])[0], sampling, draw=0)
        unfolding = Unfolding(self.prompter.decode, sampling.stop)
        for _ in self._decode([row], sampling):
            if piece := unfolding.add(row.new[-1]):
                yield piece
        if piece := unfolding.end():
            yield piece

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Answer one request, off the event loop; requests wait for each other."""
        return await asyncio.to_thread(self._reply, request)

    def _reply(self, request: ChatRequest) -> ChatReply:
        with self._one_at_a_time:
            ids = self._encode([request.turns])[0]
            row = self._row(ids, request.sampling, request.draw)
            for _ in self._decode([row], request.sampling):
                pass
            return self._finished(row, request.sampling)

    async def close(self) -> None:
        """Nothing to release: the weights go with the object."""

    def _row(self, ids: list[int], sampling: Sampling, draw: int) -> _Reply:
        if sampling.logprobs is not None:
            raise UserError(f"hf:{self.name} gives no log-probabilities of what it writes")
        room = max(self.context_length - len(ids), 0)
        if sampling.max_tokens is not None:
            room = min(room, sampling.max_tokens)
        text = f"{sampling.seed or 0}:{draw}:{ids}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        return _Reply(ids, room, random.Random(seed))

    def _text(self, row: _Reply, sampling: Sampling) -> str:
        text = self.prompter.decode(row.new)
        ends = [text.find(stop) for stop in sampling.stop if stop in text]
        return text[: min(ends)] if ends else text

    def _finished(self, row: _Reply, sampling: Sampling) -> ChatReply:
        return ChatReply(
            text=self._text(row, sampling),
            finish=row.finish or "length",
            tokens_in=len(row.prompt),
            tokens_out=len(row.new),
        )

    def _decode(self, rows: Sequence[_Reply], sampling: Sampling) -> Iterator[None]:
        """Generate for one batch, a token for every open row a step; yields after each step."""
        active = [row for row in rows if row.room > 0]
        state: dict[str, Any] = {}
        while active:
            chosen = self._step(active, state, sampling)
            keep = []
            for index, (row, token) in enumerate(zip(active, chosen, strict=True)):
                self._add(row, token, sampling)
                if row.finish is None:
                    keep.append(index)
            if len(keep) < len(active):
                active = [active[i] for i in keep]
                if active:
                    self._select(state, keep)
            yield

    def _add(self, row: _Reply, token: int, sampling: Sampling) -> None:
        row.new.append(token)
        text = self.prompter.decode(row.new) if sampling.stop else ""
        if token in self._eos or any(stop in text for stop in sampling.stop):
            row.finish = "stop"
        elif len(row.new) >= row.room:
            row.finish = "length"

    def _step(self, rows: Sequence[_Reply], state: dict[str, Any], sampling: Sampling) -> list[int]:
        """One forward pass, and the token that it chooses for each row."""
        import torch

        with torch.inference_mode():
            return _pick(self._logits(rows, state).float(), sampling, rows)

    def _logits(self, rows: Sequence[_Reply], state: dict[str, Any]) -> torch.Tensor:
        """One forward pass: the prompts at first, left-padded, then the newest token of each.

        Gives the logits (rows, vocabulary) of the next token.
        """
        import torch
        import transformers

        from meadowlark.llm.likelihood import left_padded

        with torch.inference_mode():
            if not state:
                ids, mask = left_padded([row.prompt for row in rows], self.device)
                positions = (mask.cumsum(-1) - 1).clamp(min=0)
                state["cache"] = transformers.DynamicCache(config=self.model.config)
            else:
                ids = torch.tensor([[row.new[-1]] for row in rows], device=self.device)
                ones = torch.ones_like(ids)
                mask = torch.cat([state["mask"], ones], dim=-1)
                positions = mask.sum(-1, keepdim=True) - 1
            state["mask"] = mask
            logits: torch.Tensor = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=state["cache"],
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            return logits

    def _select(self, state: dict[str, Any], keep: Sequence[int]) -> None:
        """Drop finished rows from the cache and the mask."""
        import torch

        with torch.inference_mode():
            indices = torch.tensor(keep, device=self.device)
            state["cache"].batch_select_indices(indices)
            state["mask"] = state["mask"][indices]

    # ----- likelihoods

    def queries(
        self,
        texts: Sequence[str],
        continuations: Sequence[Sequence[str]],
        *,
        special_tokens: bool = False,
    ) -> list[Query]:
        """Rendered prompts and their continuations as tokens, each prompt cut to the context.

        A continuation is what follows the rendered prompt to the letter: a space at the border is
        its own. A prompt too long for the context loses its beginning (BOS stays), as in lm-eval.
        ``special_tokens`` lets the tokenizer add its own, as for text that no template wrote.
        """
        from meadowlark.llm.likelihood import Query

        contexts = self.prompter.encode(texts, special_tokens=special_tokens)
        joint = [text + c for text, cs in zip(texts, continuations, strict=True) for c in cs]
        encoded = iter(self.prompter.encode(joint, special_tokens=special_tokens))
        queries = []
        for text, context, choices in zip(texts, contexts, continuations, strict=True):
            ids = [self.prompter.continuation(text, context, next(encoded), c) for c in choices]
            if not all(ids):
                raise UserError("an empty continuation has no likelihood; every choice needs text")
            room = self.context_length - max(len(c) for c in ids) + 1
            if room < 2:
                raise UserError(
                    f"a choice of {max(len(c) for c in ids)} tokens does not fit the context of "
                    f"{self.context_length}"
                )
            prompt = context if len(context) <= room else [context[0], *context[1 - room :]]
            queries.append(Query(prompt, ids, cut=len(context) > room))
        return queries

    def unconditional(self, continuations: Sequence[Sequence[str]]) -> list[Query]:
        """The continuations behind nothing but BOS (EOS where there is none), as in lm-eval."""
        from meadowlark.llm.likelihood import Query

        tokenizer = self.prompter.tokenizer
        start = tokenizer.bos_token_id
        start = tokenizer.eos_token_id if start is None else start
        flat = iter(self.prompter.encode([text for texts in continuations for text in texts]))
        return [Query([start], [next(flat) for _ in texts], cut=False) for texts in continuations]

    def share(self, queries: Sequence[Query]) -> Shared | None:
        """What the prompts begin with, read once; None where that is little or cannot be kept.

        Only full attention can: keys and values that slide out of a window are not those of a
        longer prompt.
        """
        import torch
        import transformers

        from meadowlark.llm.likelihood import Shared, common_beginning

        ids = common_beginning(queries)
        cache = transformers.DynamicCache(config=self.model.config)
        layers: list[Any] = cache.layers
        if not ids or any(type(x) is not transformers.cache_utils.DynamicLayer for x in layers):
            return None
        with torch.inference_mode():
            self.model(
                input_ids=torch.tensor([ids], device=self.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return Shared(ids, [(layer.keys, layer.values) for layer in layers])

    def score(self, queries: Sequence[Query], shared: Shared | None = None) -> list[list[float]]:
        """Likelihoods of one batch. Layout of a row: what is shared, padding, the rest of the
        prompt, then each continuation without its last token; position ids go on from the prompt
        for every continuation, and the attention mask hides the continuations from each other."""
        import torch
        import transformers

        from meadowlark.llm.likelihood import append_choices, left_padded, likelihoods

        if shared is not None and not all(shared.begins(query) for query in queries):
            shared = None
        before = 0 if shared is None else len(shared)
        region = max(q.region for q in queries)
        ids, mask = left_padded([q.prompt[before:] for q in queries], self.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0) + before
        given: dict[str, Any] = {"use_cache": False}
        with torch.inference_mode():
            if region:
                ids, positions, mask = append_choices(queries, ids, mask, positions, region, before)
                mask = torch.where(mask, 0.0, torch.finfo(self.model.dtype).min)
                mask = mask.to(self.model.dtype)
            elif before:
                mask = torch.cat([torch.ones_like(mask[:, :1]).expand(-1, before), mask], dim=-1)
            if shared is not None:
                cache = transformers.DynamicCache(shared.expanded(len(queries)))
                given = {"use_cache": True, "past_key_values": cache}
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                logits_to_keep=region + 1,
                **given,
            ).logits
            return [likelihoods(query, logits[row].float()) for row, query in enumerate(queries)]


def _pick(logits: torch.Tensor, sampling: Sampling, rows: Sequence[_Reply]) -> list[int]:
    """The next token of each row: the likeliest, or one drawn by inverse cumulative probability."""
    import torch

    presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
    if presence or frequency:  # OpenAI's formula
        for index, row in enumerate(rows):
            for token, times in Counter(row.new).items():
                logits[index, token] -= presence + frequency * times
    if not sampling.temperature:
        return [int(token) for token in logits.argmax(dim=-1)]
    values, order = torch.sort(logits / sampling.temperature, dim=-1, descending=True, stable=True)
    if sampling.top_k:
        values = values[:, : sampling.top_k]
    probabilities = torch.softmax(values, dim=-1)
    if sampling.top_p is not None and sampling.top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = torch.where(before < sampling.top_p, probabilities, 0.0)
    cumulative = probabilities.cumsum(-1)
    draws = torch.tensor([[row.chance.random()] for row in rows], device=logits.device)
    places = (cumulative < draws * cumulative[:, -1:]).sum(-1, keepdim=True)
    places = places.clamp(max=values.shape[-1] - 1)
    return [int(token) for token in order.gather(-1, places).squeeze(-1)]


def _cache_tokens(model: Any) -> int:
    """Tokens that half the memory beside the weights can cache."""
    import torch

    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    of_a_token = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    memory = CACHE_BYTES_ON_CPU
    if model.device.type == "cuda":
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        total = torch.cuda.get_device_properties(model.device).total_memory
        memory = max((total - weights) // 2, 1 << 30)
    return int(max(memory // of_a_token, 512))


def _eos_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token that ends an answer: the generation config's and the tokenizer's."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = set(named) if isinstance(named, list | tuple) else {named}
    return {int(i) for i in (*ids, tokenizer.eos_token_id) if i is not None}
