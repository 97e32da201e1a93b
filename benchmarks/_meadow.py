"""The real small Meadow set as the benchmarks train on it, with LLaMA-2's real tokenizer.

``MEADOWLARK_DATA`` names the folder of real data; without it a benchmark ends saying so. Nothing
read here is ever written into the repository: results hold counts, never text.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

SMALL_SET = Path("meadow", "wikidoc_patient_information", "medical_meadow_small.json")
SHARE_LEFT = 0.9
"""What medAlpaca's 10 % validation leaves of the small set's 5,942 rows: 5,348."""


def data_folder() -> Path:
    """The folder of real data; ends the script where there is none."""
    named = os.environ.get("MEADOWLARK_DATA")
    if not named or not (Path(named) / SMALL_SET).exists():
        sys.exit("MEADOWLARK_DATA names no folder of real data; nothing was measured")
    return Path(named)


def llama2_folder(folder: Path) -> Path:
    """A checkpoint's tokenizer files made of LLaMA-2's real SentencePiece model, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    model = data_folder() / "tokenizers" / "llama2_tokenizer.model"
    (folder / "tokenizer.model").write_bytes(model.read_bytes())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def llama2_tokenizer(folder: Path, template: str = "alpaca") -> Any:
    """LLaMA-2's tokenizer with a prompt template compiled in."""
    from meadowlark.train.tokenizer import load_tokenizer

    return load_tokenizer(llama2_folder(folder), template)


def mixed(folder: Path) -> Path:
    """``meadowlark mix SMALL_SET --val 0.1 --seed 42 --out FOLDER``: training and validation."""
    from meadowlark.curate.mix import mix

    mix([str(data_folder() / SMALL_SET)], folder, val=0.1, seed=42)
    return folder
