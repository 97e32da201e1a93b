"""What ``plan`` says of every setting of the GPU benchmark, on cards that need not be here.

From the rows that ``prepare.py`` encoded; ``results/training_gpu_planned.json`` is what a run on a
card is to be held against. The same figures stand beside the measured ones in each row of
``results/training_gpu.json``.

    python benchmarks/gpu/planned.py [--data .bench-gpu] [--device h100 --device h200]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "src")]
from _stamp import RESULTS, stamp  # noqa: E402  (the folder above, which is no package)
from llama import llama_config  # noqa: E402
from modes import MODES, options_of  # noqa: E402

from meadowlark.train.devices import find_device  # noqa: E402
from meadowlark.train.encoded import Encoded  # noqa: E402
from meadowlark.train.options import TrainOptions  # noqa: E402
from meadowlark.train.plan import predict  # noqa: E402

Row = dict[str, Any]


def planned(
    rows: Any, epoch_tokens: float, device: str, *, examples: Any = None, small: bool = False
) -> list[Row]:
    """A row for each setting; ``rows`` have lengths and supervised, ``examples`` their ids."""
    found: list[Row] = []
    for mode in MODES:
        for setting in mode.settings:
            values = options_of(mode, setting, int(max(rows.lengths)), small)
            options = TrainOptions.model_validate(values)
            made = predict(
                options,
                llama_config(small),
                rows,
                find_device(device),
                changes=False,
                examples=examples,
            )
            found.append(
                {
                    "device": device,
                    "mode": mode.name,
                    "setting": setting.name,
                    "fits": made.fits,
                    "peak_gb": round(made.memory.peak / 1e9, 2),
                    "needed_gb": round(made.memory.needed / 1e9, 2),
                    "aim_gb": mode.memory_aim_bytes and mode.memory_aim_bytes / 1e9,
                    "tokens_per_s": round(made.speed.tokens_per_s),
                    "mfu": round(made.speed.mfu, 3),
                    "epoch_s": round(epoch_tokens / made.speed.tokens_per_s, 1),
                    "bound_by": made.speed.bound_by,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".bench-gpu")
    parser.add_argument("--device", action="append", help="a name that plan knows; repeatable")
    options = parser.parse_args()
    if not (options.data / "encoded").exists():
        sys.exit(f"{options.data} holds no encoded rows: `make bench-gpu` where the data is")
    rows = Encoded(options.data / "encoded")
    epoch = json.loads((options.data / "manifest.json").read_text())["data"]["epoch_tokens"]
    found = [
        row
        for device in options.device or ["h100", "h200"]
        for row in planned(rows, epoch, device, examples=rows)
    ]
    result = {**stamp(("torch", "transformers", "peft")), "rows": found}
    (RESULTS / "training_gpu_planned.json").write_text(json.dumps(result, indent=2) + "\n")
    print("| card | mode | setting | GB | aim | tokens/s | MFU | epoch, s |\n" + "|---" * 8 + "|")
    for row in found:
        peak = f"{row['peak_gb']:.1f}" + ("" if row["fits"] else " (does not fit)")
        cells = [row["device"], row["mode"], row["setting"], peak, row["aim_gb"] or "–"]
        cells += [f"{row['tokens_per_s']:,}", f"{row['mfu']:.0%}", row["epoch_s"]]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")


if __name__ == "__main__":
    main()
