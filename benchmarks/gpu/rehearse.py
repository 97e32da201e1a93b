"""The GPU benchmark rehearsed at full size where there is no GPU, on a card that computes nothing.

``imitation/card.c`` stands for CUDA below PyTorch: everything above it is real, Triton's compiler
and PyTorch's allocator with its counts included. So this shows before the one call on a GPU that
every mode runs to its end with that machine's own versions, and what memory it takes, beside what
``plan`` says. It says nothing of values or speed. Needs gcc, and a Python with the machine's
versions and PyTorch for CUDA, which ``PACKAGES`` installs (4 GB); ``prepare.py`` comes first.

    python benchmarks/gpu/rehearse.py --python VENV/bin/python
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from _stamp import RESULTS, stamp  # noqa: E402  (the folder above, which is no package)
from modes import MODES  # noqa: E402

Row = dict[str, Any]
PACKAGES = (
    "torch==2.11.0 transformers==5.17.0 accelerate==1.15.0 peft==0.21.2 numpy==2.5.2 "
    "safetensors==0.8.0 tokenizers==0.23.2 sentencepiece==0.2.2 pyarrow numba pandas aiohttp "
    "xxhash nvidia-cuda-crt==13.0.88"
)
PEER = "trl-lora-bf16"
"""Not rehearsed: its attention masks are made from numbers that are read back from the card."""
CARDS = {
    "h200": ("Imitated NVIDIA H200", 149_250_000_000, [m.name for m in MODES if m.name != PEER]),
    "h100": ("Imitated NVIDIA H100 80GB", 84_987_740_160, ["full-fp32"]),
}
"""What each calls itself, its bytes, and the modes: on the smaller one, what does not fit there."""
LIBRARIES = (
    "torch/lib/libc10_cuda.so",
    "torch/lib/libcaffe2_nvrtc.so",
    "torch/lib/libtorch_cuda.so",
    "torch/lib/libtorch_cuda_linalg.so",
    "torch/lib/libtorch_python.so",
)
OURS = ("cuda", "__cuda", "cublas", *(f"cu{letter}" for letter in "CDEGILMOPST"), "cuFunc")
"""How the names begin that the imitation answers to; cuFile and cuDNN stay the real ones."""
SAYS = (
    "memory by PyTorch's own allocator on a card that computes nothing, beside what plan says; "
    "status ok means that every operation was accepted and every kernel compiled. No values and no "
    "speed: nothing was computed"
)


def names(command: list[str]) -> set[str]:
    """The symbols that ``nm`` lists."""
    listed = subprocess.run(["nm", *command], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].partition("@")[0] for line in listed.splitlines() if line.strip()}


def build(python: str, folder: Path) -> dict[str, str]:
    """The card as a library in ``folder``; what must be in the environment for it to be used."""
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    headers = site / "nvidia/cu13/include"
    if not (headers / "crt/host_defines.h").exists():
        sys.exit(f"{python} lacks CUDA's headers: {python} -m pip install {PACKAGES}")
    card, rest = folder / "card.o", folder / "rest.c"
    compiler = ["gcc", "-O1", "-w", "-fPIC"]
    subprocess.run(
        [*compiler, f"-I{headers}", "-c", str(HERE / "imitation/card.c"), "-o", str(card)],
        check=True,
    )
    wanted: set[str] = set()
    for library in LIBRARIES:
        wanted |= names(["-D", "--undefined-only", str(site / library)])
    lacking = sorted(name for name in wanted - names([str(card)]) if name.startswith(OURS))
    rest.write_text("".join(f"int {name}() {{ return 0; }}\n" for name in lacking))
    library = folder / "libcuda.so.1"
    command = [*compiler, "-shared", "-o", str(library), str(card), str(rest), "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    # cuDNN is not imitated: attention with a mask, TRL's, goes to another kernel.
    (folder / "sitecustomize.py").write_text(
        "import torch\n\ntorch.backends.cuda.enable_cudnn_sdp(False)\n"
    )
    return {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(folder),
        "LD_LIBRARY_PATH": str(folder),
        "TRITON_LIBCUDA_PATH": str(folder),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "PATH": f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}",
    }


def rehearse(python: str, card: str, modes: list[str], folder: Path, log: Path) -> list[Row]:
    """The rows of the benchmark's modes on a card, without what only a real one can say."""
    name, size, _ = CARDS[card]
    env = {**os.environ, **build(python, folder)}
    env |= {"IMITATED_NAME": name, "IMITATED_BYTES": str(size), "OUT": str(folder / card)}
    command = [python, str(HERE / "run.py"), "--budget-s", "3600", "--patience", "8"]
    done = subprocess.run([*command, "--modes", ",".join(modes)], env=env, check=False)
    written = folder / card / "training_gpu.json"
    if not written.exists():
        sys.exit(f"the benchmark wrote nothing and ended with {done.returncode}")
    log.write_text((folder / card / "log.txt").read_text(errors="replace"))
    return [
        row
        for found in json.loads(written.read_text())["rows"]
        if (row := told(card, found)) is not None
    ]


def told(card: str, found: Row) -> Row | None:
    """What is true of a row on any card."""
    if found["status"] == "wrong" or "matrix_flops_per_s" in found:
        return None  # values and rates
    row = {
        key: found[key]
        for key in ("mode", "setting", "tried", "status", "reason", "peak_bytes")
        if key in found
    }
    if "predicted" in found:
        plan = found["predicted"]
        row["planned_peak_bytes"] = plan.get("peak_bytes")
        row["planned_over_allocated"] = plan.get("over_measured", {}).get("peak_bytes")
    return {"card": card, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="of the GPU machine's versions")
    parser.add_argument("--card", action="append", choices=list(CARDS), help="repeatable")
    parser.add_argument("--modes", help="which, by comma; all else")
    parser.add_argument("--add", action="store_true", help="keep the file's rows of other modes")
    parser.add_argument("--out", type=Path, default=RESULTS / "training_gpu_rehearsed.json")
    options = parser.parse_args()
    rows: list[Row] = []
    for card in options.card or list(CARDS):
        modes = options.modes.split(",") if options.modes else CARDS[card][2]
        with tempfile.TemporaryDirectory() as name:
            log = options.out.with_name(f"{options.out.stem}-{card}.log")
            rows += rehearse(options.python, card, modes, Path(name), log)
            if all(row["status"] in ("ok", "out of memory") for row in rows):
                log.unlink()
    if options.add and options.out.exists():
        ran = {(row["card"], row["mode"]) for row in rows}
        before = json.loads(options.out.read_text())["rows"]
        rows = [row for row in before if (row["card"], row["mode"]) not in ran] + rows
    listed = [options.python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    installed = json.loads(subprocess.check_output(listed, text=True))
    kept = {package.partition("==")[0] for package in PACKAGES.split()} | {"triton"}
    versions = {p["name"]: p["version"] for p in installed if p["name"] in kept}
    limits = [row["planned_over_allocated"] for row in rows if row.get("planned_over_allocated")]
    result = {
        **stamp(()),
        "versions": versions,
        "says": SAYS,
        "plan_off_at_most": round(max(abs(ratio - 1) for ratio in limits), 4) if limits else None,
        "rows": rows,
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for row in rows:
        peak = (row.get("peak_bytes") or {}).get("allocated")
        cells = [row["card"], row["mode"], row.get("setting", ""), row["status"]]
        cells += [f"{peak / 1e9:.2f} GB" if peak else row.get("reason", "")[:80]]
        print(" | ".join(cells))
    if bad := [row for row in rows if row["status"] not in ("ok", "out of memory")]:
        sys.exit(f"{len(bad)} rows did not run")


if __name__ == "__main__":
    main()
