"""LoRA adapters put on a loaded base, by peft, whatever they hold: LoRA, rsLoRA, DoRA, embeddings.

An adapter that was trained with added tokens holds more embeddings than its base; the base grows
to them first. Only safetensors are loaded.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.llm.prompter import cannot_load

WEIGHTS = "adapter_model.safetensors"


def put_on(model: Any, adapter: str) -> Any:
    """``model`` with the layers of an adapter (a folder or hub id) put in, as a PeftModel.

    The adapter's own weights are in float32, as peft has them, and are not merged.
    """
    import peft

    folder = Path(adapter)
    if folder.is_dir() and not (folder / WEIGHTS).exists():
        raise UserError(f"{adapter} holds no {WEIGHTS}; only safetensors are loaded")
    try:
        if folder.is_dir():
            _grow(model, folder)
        with warnings.catch_warnings():  # peft 0.21 reads an attribute transformers 5 renames
            warnings.simplefilter("ignore", FutureWarning)
            return peft.PeftModel.from_pretrained(model, adapter, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise cannot_load(adapter, error) from None


def _grow(model: Any, folder: Path) -> None:
    """Give the base as many embeddings as the adapter was trained with."""
    from safetensors import safe_open

    embeddings = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embeddings)
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        held = [key for key in file.keys() if key.endswith(f".{name}.weight")]  # noqa: SIM118
        rows = file.get_slice(held[0]).get_shape()[0] if held else embeddings.num_embeddings
    if rows != embeddings.num_embeddings:
        model.resize_token_embeddings(rows, mean_resizing=False)
