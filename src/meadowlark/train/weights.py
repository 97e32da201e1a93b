"""Weights on their way into a package: placed as they are, converted, or merged with an adapter.

Always safetensors. A merge is computed in float32, one layer at a time, so that it holds the model
in the precision it is stored in and no more than one layer beside it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from meadowlark.errors import UserError
from meadowlark.llm.adapters import put_on
from meadowlark.llm.prompter import cannot_load
from meadowlark.train.trained import ADAPTER_WEIGHTS, INDEX, Trained

SHARD = "5GB"
"""A larger file is written as several, which load on machines that could not hold it whole."""
TYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
LARGE = 64 << 20
"""Bytes from which a file is linked rather than copied, where its blocks cannot be shared."""
FICLONE = 0x40049409  # linux/fs.h: share another file's blocks, copied when either is written


def stored_dtype(trained: Trained) -> str:
    """What a checkpoint's floating-point weights are in; ``mixed`` where not all are the same."""
    found = set()
    for name in trained.files():
        with safe_open(trained.folder / name, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                kind = file.get_slice(key).get_dtype()
                if kind in TYPES:
                    found.add(TYPES[kind])
                elif "F" in kind:
                    found.add(kind)
    return found.pop() if len(found) == 1 else "mixed"


def place(source: Path, target: Path) -> str:
    """Give ``target`` a file's content, without its bytes being copied where that can be.

    By sharing blocks (the file system keeps the two apart), else, if it is large, by a hard link,
    else by copying; returns which. A hard link is one file under two names. No stage writes into a
    file: all write beside and rename, or delete first, so a link made here stays what it was.
    Should another program write into one, both folders differ from the hashes in their manifests,
    and both are refused.
    """
    source = source.resolve()
    target.unlink(missing_ok=True)
    with source.open("rb") as held, target.open("wb") as made:
        try:
            fcntl.ioctl(made, FICLONE, held.fileno())
            return "shared blocks"
        except OSError:
            pass
    target.unlink()
    if source.stat().st_size >= LARGE:
        try:
            os.link(source, target)
            return "hard link"
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
    shutil.copyfile(source, target)
    return "copy"


def place_weights(trained: Trained, folder: Path) -> str:
    """A checkpoint's weight files in ``folder`` as they are, with their index."""
    names = trained.files()
    how = {place(trained.folder / name, folder / name) for name in names}
    if (trained.folder / INDEX).exists() and not trained.is_adapter:
        shutil.copyfile(trained.folder / INDEX, folder / INDEX)
    return ", ".join(sorted(how))


def convert_adapter(trained: Trained, dtype: str, folder: Path) -> None:
    """An adapter's weights in another type."""
    weights = load_file(trained.folder / ADAPTER_WEIGHTS)
    target = getattr(torch, dtype)
    made = {k: w.to(target) if w.is_floating_point() else w for k, w in weights.items()}
    _finite(made, dtype)
    save_file(made, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def load(source: str | Path, dtype: str) -> Any:
    """A causal language model on the CPU; ``dtype`` auto is the one it is stored in."""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if getattr(config, "quantization_config", None):
            raise UserError(
                f"{source} holds quantised weights, which lose what an adapter adds; give the "
                "unquantised model"
            )
        return AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise cannot_load(str(source), error) from None


def merge(base: str, adapter: Path, dtype: str) -> Any:
    """The base with an adapter merged into it, its weights in ``dtype``.

    peft's own arithmetic (LoRA, rsLoRA, DoRA, trained embeddings), in float32 whatever the base is
    stored in; each layer is rounded once, when it is done. The base is never quantised here, also
    where the adapter was trained on one that was.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    target = getattr(torch, dtype)
    model = put_on(load(base, "float32" if dtype == "float32" else "auto"), str(adapter))
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise UserError(f"{adapter} adapts no layer of {base}: it is for another model")
    for layer in layers:
        weights: torch.nn.Module = layer.get_base_layer()
        weights.to(torch.float32)
        layer.merge()
        weights.to(target)
    with warnings.catch_warnings():
        # The layers are merged, and trained embeddings no longer tied to the head: both as meant.
        warnings.filterwarnings("ignore", ".*(no longer tied|already merged)", UserWarning)
        merged = model.merge_and_unload()
    return merged.to(target)


def save(model: Any, dtype: str, folder: Path) -> None:
    """A model's weights as safetensors of at most :data:`SHARD` each."""
    _finite(model.state_dict(), dtype)
    # A base's own may be one that cannot be saved.
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder, max_shard_size=SHARD)


def _finite(weights: dict[str, torch.Tensor], dtype: str) -> None:
    if dtype != "float16":
        return
    beyond = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if beyond:
        raise UserError(
            f"--dtype float16 cannot hold {beyond[0]}: values beyond 65,504; use bfloat16"
        )
