"""The model to train: a base checkpoint, a small LLaMA with random weights, LoRA around either.

Only safetensors are loaded, and no code from a checkpoint is ever run. The weights' type is what
the options say, not what the checkpoint happens to hold.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed

from meadowlark.errors import UserError, did_you_mean
from meadowlark.train.attention import use_packed_attention
from meadowlark.train.options import FromScratchOptions, LoraOptions, TrainOptions
from meadowlark.train.tokenizer import save_tokenizer


def new_llama(options: FromScratchOptions, tokenizer: Any, seed: int) -> LlamaForCausalLM:
    """A LLaMA with random weights, the same for the same options, vocabulary size and seed."""
    intermediate = options.intermediate or -(-options.width * 8 // 3 // 32) * 32
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        intermediate_size=intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads or options.heads,
        max_position_embeddings=options.context,
        tie_word_embeddings=options.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    set_seed(seed)
    return LlamaForCausalLM(config)


def load_model(source: str | Path, dtype: str) -> Any:
    """A causal language model from a folder or the hub, its weights in ``dtype``."""
    try:
        return AutoModelForCausalLM.from_pretrained(
            source,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot load the base model {str(source)!r}: {error}. Expected a folder or hub id "
            "of a LLaMA-family model with safetensors weights"
        ) from None


def prepare(model: Any, options: TrainOptions, tokenizer: Any) -> Any:
    """A loaded model made ready to train: packed attention, LoRA, gradient checkpointing."""
    vocabulary = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > vocabulary:
        raise UserError(
            f"the tokenizer has {len(tokenizer):,} tokens, the model embeds only {vocabulary:,}"
        )
    context = getattr(model.config, "max_position_embeddings", None)
    if context and options.data.max_length > context:
        raise UserError(
            f"data.max_length {options.data.max_length} is above the model's context of {context}"
        )
    use_packed_attention(model, options.data.max_length)
    model.config.use_cache = False
    if options.run.gradient_checkpointing:
        _recompute_activations(model)
    if options.lora is not None:
        model = add_lora(model, options.lora, options.run.seed)
    return model


def _recompute_activations(model: Any) -> None:
    """Gradient checkpointing, under the name that the installed transformers gives it."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def add_lora(model: Any, options: LoraOptions, seed: int) -> Any:
    """``model`` with fresh float32 adapters on the named linear layers, all else frozen."""
    from peft import LoraConfig, get_peft_model

    linear = {
        n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)
    }
    for target in options.targets:
        if target not in linear:
            hint = did_you_mean(target, linear)
            raise UserError(
                f"lora.targets: the model has no linear layer {target!r}.{hint} "
                f"Known: {', '.join(sorted(linear))}."
            )
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        use_rslora=options.rslora,
        use_dora=options.dora,
        task_type="CAUSAL_LM",
    )
    set_seed(seed)
    with warnings.catch_warnings():
        # peft still asks for a property that transformers renamed; the answer is right.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        return get_peft_model(model, config)


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
