"""What a training run can be told: the tables of its TOML file, each with its meaning and default.

Unknown keys are errors (``config.Options``), paths are relative to the current directory, and what
cannot work together is refused here, before anything is read. Defaults follow the two papers where
they agree (PAPERS.md, "Training").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from meadowlark.config import Options

Dtype = Literal["float32", "bfloat16", "float16"]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class FromScratchOptions(Options):
    """[model.from_scratch]: a small LLaMA and a byte-level BPE tokenizer, both new.

    ``vocabulary`` is an upper bound, special tokens included: few rows may give fewer tokens.
    ``intermediate`` defaults to LLaMA's 8/3 of the width, rounded up to a multiple of 32. Input
    and output embeddings are apart unless ``tied``: apart they learn far faster from few tokens
    (2.15 against 2.28 bits a byte after 158,000 tokens of wikidoc).
    """

    width: Positive = 192
    layers: Positive = 5
    heads: Positive = 4
    kv_heads: Positive | None = None
    intermediate: Positive | None = None
    vocabulary: Annotated[int, Field(ge=300)] = 4096
    context: Positive = 1024
    tied: bool = False
    keep_initial: bool = True

    @model_validator(mode="after")
    def _divisible(self) -> FromScratchOptions:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"width {self.width} over {self.heads} heads must be an even number")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        return self


class ModelOptions(Options):
    """[model]: a decoder-only ``base`` (folder or hub id), or ``from_scratch``.

    ``dtype`` is what the weights are held in. Full fine-tuning keeps float32 master weights (the
    arithmetic's precision is ``run.precision``); bfloat16 makes it pure bfloat16; with LoRA it is
    the frozen base's. ``quantise`` holds the frozen base's linear layers in 8 bits (LLM.int8) or
    4 (NF4, its constants quantised once more), ``dtype`` being what the rest is held in.
    ``added_tokens`` are new special tokens; the embeddings and the head grow by them.
    """

    base: str | None = None
    from_scratch: FromScratchOptions | None = None
    dtype: Dtype = "float32"
    quantise: Literal["int8", "nf4"] | None = None
    added_tokens: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_origin(self) -> ModelOptions:
        if (self.base is None) == (self.from_scratch is None):
            raise ValueError("give either model.base or a [model.from_scratch] table")
        if len(set(self.added_tokens)) < len(self.added_tokens) or "" in self.added_tokens:
            raise ValueError("added_tokens holds a token twice, or an empty one")
        return self


class DataOptions(Options):
    """[data]: ``path`` is a folder that ``mix`` made (rows.parquet, validation.parquet) or a file.

    ``max_length`` counts the tokens of a whole row. ``too_long`` says what happens beyond it:
    the row is rejected, or its input is shortened (a response is never cut), or the response is
    learned in pieces, each behind the same prompt (``split``). ``loss_on`` is the last response,
    every answer of a conversation, or all tokens. ``template`` is needed where the base's
    tokenizer brings none, and replaces the one it brings. ``workers`` 0 encodes with all cores.
    """

    path: Path
    validation: Path | None = None
    template: str | None = None
    max_length: Annotated[int, Field(ge=8)] = 512
    too_long: Literal["reject", "cut_input", "split"] = "reject"
    loss_on: Literal["response", "answers", "all"] = "response"
    workers: Annotated[int, Field(ge=0)] = 0


class LoraOptions(Options):
    """[lora]: low-rank adapters on ``targets``; everything else is frozen.

    ``targets`` are names of linear layers, or ``["all"]`` for every one but the head.
    ``embeddings`` trains the embeddings and the head in full besides, as added tokens need.
    """

    rank: Positive = 8
    alpha: Positive = 16
    dropout: Fraction = 0.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    rslora: bool = False
    dora: bool = False
    embeddings: bool = False

    @model_validator(mode="after")
    def _some_targets(self) -> LoraOptions:
        if not self.targets:
            raise ValueError('targets is empty; name linear layers, or ["all"]')
        if "all" in self.targets and len(self.targets) > 1:
            raise ValueError('targets ["all"] leaves nothing else to name')
        return self


class OptimiserOptions(Options):
    """[optimiser]: AdamW. A step averages over the supervised tokens of ``batch_rows`` rows.

    ``name`` is AdamW with its state in float32 or in 8 bits, ``paged`` letting it move to the
    host's memory when the GPU's is full (bitsandbytes). ``batch_tokens`` fills a step with rows up
    to that many tokens instead. ``warmup`` is a number of steps (an integer) or a fraction of all
    steps. Training ends after ``epochs``, or after ``max_steps`` where that comes first.
    """

    name: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] | Fraction = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    epochs: Positive = 3
    max_steps: Positive | None = None
    batch_rows: Positive = 128
    batch_tokens: Positive | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0


class RunOptions(Options):
    """[run]: how, not what.

    ``tokens_per_forward`` bounds what one forward pass holds (memory); rows of one step are packed
    into as few passes as fit. ``precision`` is the arithmetic's: auto is bfloat16 autocast on a
    GPU, float32 on a CPU. ``gradient_checkpointing`` recomputes every layer's activations, or the
    first so many layers'. ``kernels`` liger takes Liger's fused ones (a GPU). ``compile`` compiles
    the layers, every pass being filled up to ``tokens_per_forward``. ``parallel`` is what several
    processes do: each holds a shard of the model (FSDP2), or all of it (DDP). ``threads`` 0 leaves
    the number to PyTorch.

    ``evaluate_every_steps`` 0 evaluates before and after training only. ``stop_below_bigram`` ends
    training at the first evaluation with fewer bits a byte than a bigram model of the same rows,
    ``patience`` after many evaluations without a new best (0: never). ``keep_best`` makes the
    weights of the best evaluation the result. ``sample_every_steps`` answers the first
    ``samples`` validation prompts with up to ``sample_tokens`` tokens, into ``samples.jsonl``.
    ``report_to`` names trackers; ``train_log.jsonl`` is always written.
    """

    seed: int = 42
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    packing: bool = True
    tokens_per_forward: Positive | None = None
    gradient_checkpointing: bool | Positive = False
    kernels: Literal["torch", "liger"] = "torch"
    compile: bool = False
    parallel: Literal["fsdp", "ddp"] = "fsdp"
    save_every_steps: Positive = 200
    evaluate_every_steps: Annotated[int, Field(ge=0)] = 0
    stop_below_bigram: bool = False
    patience: Annotated[int, Field(ge=0)] = 0
    keep_best: bool = False
    sample_every_steps: Annotated[int, Field(ge=0)] = 0
    samples: Positive = 3
    sample_tokens: Positive = 64
    log_every_steps: Positive = 1
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()


class TrainOptions(Options):
    """A whole training run."""

    model: ModelOptions
    data: DataOptions
    optimiser: OptimiserOptions
    lora: LoraOptions | None = None
    run: RunOptions = RunOptions()

    @model_validator(mode="after")
    def _possible_together(self) -> TrainOptions:
        scratch = self.model.from_scratch
        if scratch is not None:
            if self.lora is not None:
                raise ValueError("[lora] needs model.base: random weights must all be trained")
            if self.data.template is None:
                raise ValueError("data.template: a model from scratch needs one, e.g. 'alpaca'")
            if self.data.max_length > scratch.context:
                raise ValueError(
                    f"data.max_length {self.data.max_length} is above "
                    f"model.from_scratch.context {scratch.context}"
                )
        for name in ("stop_below_bigram", "patience", "keep_best"):
            if getattr(self.run, name) and not self.run.evaluate_every_steps:
                raise ValueError(f"run.{name} needs run.evaluate_every_steps above 0")
        if self.model.quantise and self.lora is None:
            raise ValueError(
                f"model.quantise '{self.model.quantise}' holds frozen weights only: add [lora]"
            )
        if self.model.added_tokens and scratch is not None:
            raise ValueError("model.added_tokens needs model.base")
        if self.model.added_tokens and self.lora is not None and not self.lora.embeddings:
            raise ValueError(
                "model.added_tokens with [lora] needs lora.embeddings = true: the new tokens' "
                "embeddings are random until they are trained"
            )
        if self.model.dtype == "float16" and self.lora is None:
            raise ValueError(
                "model.dtype 'float16' cannot be fully fine-tuned (its gradients underflow); use "
                "'float32' with run.precision = 'float16', or add [lora]"
            )
        halves = {self.model.dtype, self.run.precision}
        if halves == {"float16", "bfloat16"}:
            raise ValueError(
                f"model.dtype '{self.model.dtype}' and run.precision '{self.run.precision}': sums "
                "of two 16-bit types are made in 32 bits everywhere; use the same for both"
            )
        if self.run.compile and not self.run.packing:
            raise ValueError(
                "run.compile fills every pass up to run.tokens_per_forward, which without "
                "run.packing holds a single row"
            )
        if self.run.compile and self.run.kernels == "liger":
            raise ValueError("run.compile fuses what run.kernels 'liger' does: choose one of them")
        return self

    @property
    def tokens_per_forward(self) -> int:
        """Tokens that one forward pass may hold; never less than the longest row."""
        return max(self.run.tokens_per_forward or 2048, self.data.max_length)

    def compared(self) -> dict[str, Any]:
        """The options that make one run differ from another, flat, as JSON values.

        Left out are the data's paths, whose content is compared as inputs, and what cannot change
        a result.
        """
        neutral = {
            "data.path",
            "data.validation",
            "run.save_every_steps",
            "run.seed",
            "run.log_every_steps",
            "run.report_to",
            "run.sample_every_steps",
            "run.samples",
            "run.sample_tokens",
            "data.workers",
        }
        flat = flatten(self.model_dump(mode="json"))
        return {key: value for key, value in flat.items() if key not in neutral}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def to_toml(options: TrainOptions) -> str:
    """The resolved options as TOML text, defaults included, that loads to the same options."""
    tables: dict[str, list[str]] = {}
    for key, value in flatten(options.model_dump(mode="json")).items():
        table, _, name = key.rpartition(".")
        if value is not None and table:
            tables.setdefault(table, []).append(f"{name} = {_toml_value(value)}")
    sections = [f"[{table}]\n" + "\n".join(lines) for table, lines in tables.items()]
    return "\n\n".join(sections) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)
