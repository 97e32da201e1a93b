"""The model to train: a base checkpoint, a small LLaMA with random weights, made ready for it.

Only safetensors are loaded, and no code from a checkpoint is ever run. The weights' type is what
the options say, not what the checkpoint happens to hold. What the options ask and the model cannot
do is refused on its outline, before its weights are read.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed
from transformers.modeling_layers import GradientCheckpointingLayer

from meadowlark.errors import UserError
from meadowlark.train import kernels
from meadowlark.train.adapters import adapter_targets, add_lora
from meadowlark.train.attention import PROVED, refuse_other_attention, use_packed_attention
from meadowlark.train.device import autocast_dtype
from meadowlark.train.loss import learn_in_chunks
from meadowlark.train.options import FromScratchOptions, TrainOptions
from meadowlark.train.tokenizer import save_tokenizer


def scratch_config(options: FromScratchOptions, vocabulary: int, **special: Any) -> LlamaConfig:
    """The configuration of a new LLaMA; ``special`` names its special tokens' ids."""
    intermediate = options.intermediate or -(-options.width * 8 // 3 // 32) * 32
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=options.width,
        intermediate_size=intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads or options.heads,
        max_position_embeddings=options.context,
        tie_word_embeddings=options.tied,
        **special,
    )


def new_llama(options: FromScratchOptions, tokenizer: Any, seed: int) -> LlamaForCausalLM:
    """A LLaMA with random weights, the same for the same options, vocabulary size and seed."""
    config = scratch_config(
        options,
        len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    set_seed(seed)
    return LlamaForCausalLM(config)


def load_model(
    source: str | Path,
    dtype: str,
    quantise: Literal["int8", "nf4"] | None = None,
    compute: torch.dtype | None = None,
) -> Any:
    """A causal language model from a folder or the hub, its weights in ``dtype``.

    ``quantise`` holds the linear layers but the head in ``int8`` or ``nf4``, which are put back
    into ``compute`` (None: ``dtype``) where they are used.
    """
    weights: torch.dtype = getattr(torch, dtype)
    more: dict[str, Any] = {}
    if quantise is not None:
        from meadowlark.train import quantised

        more = {"quantization_config": quantised.quantisation(quantise, compute or weights)}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=weights, use_safetensors=True, trust_remote_code=False, **more
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(source, error) from None
    if getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False):
        from meadowlark.train import quantised

        quantised.compute_here(model)
    return model


def _cannot_load(source: str | Path, error: Exception) -> UserError:
    return UserError(
        f"cannot load the base model {str(source)!r}: {error}. Expected a folder or hub id of a "
        "LLaMA-family model with safetensors weights"
    )


def load_base(options: TrainOptions, tokenizer: Any) -> Any:
    """The base model of ``options``, after its outline has shown that it can do what they ask."""
    asked = options.model
    assert asked.base is not None
    refuse_what_the_model_cannot(outline(asked.base), options, tokenizer)
    return load_model(asked.base, asked.dtype, asked.quantise, autocast_dtype(options))


def outline(source: str | Path) -> Any:
    """A checkpoint's model without its weights (on the meta device), from its configuration."""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        with torch.device("meta"):
            made: Any = AutoModelForCausalLM
            return made.from_config(config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(source, error) from None


def refuse_what_the_model_cannot(model: Any, options: TrainOptions, tokenizer: Any) -> None:
    """Raise UserError for what ``options`` ask and ``model``, or its outline, cannot do."""
    config = model.config.get_text_config()
    refuse_other_attention(model, options.data.max_length)
    _refuse_quantised(model, options)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) - len(options.model.added_tokens) > rows:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} tokens, the model embeds only {rows:,}"
        )
    context = getattr(config, "max_position_embeddings", None)
    if context and options.data.max_length > context:
        raise UserError(
            f"data.max_length {options.data.max_length} is above the model's context of {context}"
        )
    asked, layers = options.run.gradient_checkpointing, len(decoder_layers(model))
    if asked and not layers:
        raise UserError(
            f"run.gradient_checkpointing: {type(model).__name__} has no layers that recompute"
        )
    if type(asked) is int and asked > layers:
        raise UserError(
            f"run.gradient_checkpointing {asked} is above the model's {layers} layers; true "
            "recomputes all"
        )
    if options.run.kernels == "liger":
        kernels.refuse_without_liger(model.config.model_type)
    if options.lora is not None:
        adapter_targets(model, options.lora)


def _refuse_quantised(model: Any, options: TrainOptions) -> None:
    """Refuse a base whose checkpoint is quantised where that cannot be trained upon."""
    made = getattr(model.config, "quantization_config", None)
    if made is None:
        return
    made = made if isinstance(made, dict) else made.to_dict()
    if made.get("quant_method") != "bitsandbytes":
        raise UserError(
            f"the base is quantised by {made.get('quant_method')}, which is not trained upon here; "
            "give the original, and model.quantise = 'nf4' or 'int8'"
        )
    if options.lora is None:
        raise UserError("the base is quantised, and quantised weights stay frozen: add [lora]")
    if options.model.quantise == ("int8" if made.get("load_in_4bit") else "nf4"):
        raise UserError(f"the base is quantised already, and not to {options.model.quantise}")


def prepare(model: Any, options: TrainOptions, tokenizer: Any) -> Any:
    """A loaded model made ready to train.

    Packed attention, the loss in chunks, embeddings for added tokens, recomputation, adapters.
    """
    refuse_what_the_model_cannot(model, options, tokenizer)
    use_packed_attention(model, options.data.max_length)
    learn_in_chunks(model)
    if model.config.get_text_config().model_type not in PROVED:
        from meadowlark.train.proof import prove

        prove(model, packing=options.run.packing)
    if options.model.added_tokens:
        embed_tokens(model, tokenizer, options.model.added_tokens, options.run.seed)
    if options.run.kernels == "liger":
        kernels.use_liger(model)
    return adapt(model, options)


def adapt(model: Any, options: TrainOptions) -> Any:
    """The last of :func:`prepare`, which needs no weights: recomputation and adapters."""
    model.config.use_cache = False
    if options.run.gradient_checkpointing:
        _recompute_activations(model, options.run.gradient_checkpointing)
    if options.lora is not None:
        model = add_lora(model, options.lora, options.run.seed, autocast_dtype(options))
    return model


def decoder_layers(model: Any) -> list[Any]:
    """The model's layers, first to last."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _recompute_activations(model: Any, layers: bool | int = True) -> None:
    """Gradient checkpointing of all layers, or of so many.

    It is the first layers that recompute. When the backward pass comes to them, the activations
    of the later ones are gone, so that the one layer that is being recomputed adds nothing to the
    peak; a recomputing last layer would be on top of all that is kept.
    """
    found = decoder_layers(model)
    recompute = functools.partial(checkpoint, use_reentrant=False)
    for layer in found if layers is True else found[:layers]:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = recompute


NOISE = 1e-2
"""Spread of new embeddings around the mean of the old ones, in the old ones' own spread."""


@torch.no_grad()
def embed_tokens(model: Any, tokenizer: Any, added: tuple[str, ...], seed: int) -> None:
    """Give ``added`` tokens, which ``tokenizer`` has already, embeddings and places in the head.

    Each starts near the mean of the old tokens, the same for the same seed. A model with unused
    rows (many are padded) keeps its size; a smaller one grows to the tokenizer's size, no further.
    """
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    ids = tokenizer.convert_tokens_to_ids(list(added))
    old = len(tokenizer) - len(added)
    noise = torch.Generator().manual_seed(seed)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or head.weight is embeddings.weight
    for module in (embeddings,) if tied else (embeddings, head):
        known = module.weight[:old].float()
        drawn = torch.randn(len(ids), known.shape[1], generator=noise).to(known.device)
        module.weight[ids] = (known.mean(0) + NOISE * known.std(0) * drawn).to(module.weight.dtype)
        if getattr(module, "bias", None) is not None:
            module.bias[ids] = module.bias[:old].mean()


def parameters(model: Any) -> tuple[int, int]:
    """How many parameters a model has, and how many of them are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)


def save_weights(model: Any, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Write the weights (or only the adapter) with their configuration, as safetensors.

    ``state`` holds the weights of a model whose own are shards.
    """
    options: dict[str, Any] = {} if state is None else {"state_dict": state}
    if hasattr(model, "peft_config"):
        options["save_embedding_layers"] = False  # else peft asks the hub about the base
    else:
        generation = model.generation_config
        if generation is not None and not generation.do_sample:
            # Published bases carry sampling values without sampling; saving those is an error.
            generation.temperature = generation.top_p = generation.top_k = None
        if state and model.config.get_text_config().tie_word_embeddings:
            # Gathered shards no longer show that two weights are one.
            tied = model._tied_weights_keys or {}
            options["state_dict"] = {k: w for k, w in state.items() if k not in tied}
    model.save_pretrained(folder, **options)


def save_checkpoint(
    model: Any,
    tokenizer: Any,
    folder: Path,
    state: dict[str, Any] | None = None,
    weights: Path | None = None,
) -> list[str]:
    """Write all that a server needs to load the model; returns the names of the files.

    ``weights`` is a folder of :func:`save_weights` to take them from instead of the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _written(folder)
    model.config.use_cache = True
    if weights is None:
        save_weights(model, folder, state)
    else:
        shutil.copytree(weights, folder, dirs_exist_ok=True)
    save_tokenizer(tokenizer, folder)
    model.config.use_cache = False
    written = _written(folder)
    names = sorted(name for name, time in written.items() if before.get(name) != time)
    mode = (folder / "tokenizer_config.json").stat().st_mode
    for name in names:
        (folder / name).chmod(mode)  # safetensors keeps weights from a server's own user
    return names


def _written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}
