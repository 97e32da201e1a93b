"""Everything the GPU machine needs and cannot fetch, into ``.bench-gpu``: 64 MiB at most travel.

The real small Meadow set encoded with LLaMA-2's real tokenizer (ids, no text), that tokenizer, and
the wheels of what the machine's Python lacks: pydantic for us, bitsandbytes with the one CUDA
library that its torch loads, Liger, and TRL with what it imports. Versions are those installed
here. Needs ``MEADOWLARK_DATA`` and PyPI; what is there already is left alone.

    python benchmarks/gpu/prepare.py [--out .bench-gpu]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from _meadow import SHARE_LEFT, data_folder, llama2_tokenizer, mixed  # noqa: E402

LARGEST_BYTES = 60 * 2**20
PYTHON, CUDA = "3.12", "130"
"""The machine's Python, and its torch's CUDA as bitsandbytes names it (torch 2.11.0+cu130)."""
PLATFORMS = ("2_28", "2_24", "2_17")
WHEELS = (
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "bitsandbytes",
    "trl",
    "datasets",
    "dill",
    "multiprocess",
)
"""Of the versions installed here. pandas and xxhash, which datasets wants, are on the machine."""
LIGER = "liger-kernel==0.8.5"


def wheels(folder: Path) -> None:
    """Download the wheels for the machine's Python, bitsandbytes reduced to what it loads."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS] + [LIGER]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "-q"]
    command += ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", PYTHON]
    for platform in PLATFORMS:
        command += ["--platform", f"manylinux_{platform}_x86_64"]
    command += ["--platform", "manylinux2014_x86_64"]
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([*command, "-d", name, *wanted], check=True)
        folder.mkdir()
        for wheel in sorted(Path(name).glob("*.whl")):
            if wheel.name.startswith("bitsandbytes-"):
                reduce_bitsandbytes(wheel, folder / wheel.name)
            else:
                shutil.copy(wheel, folder)


def reduce_bitsandbytes(wheel: Path, target: Path) -> None:
    """The same wheel with the libraries for the CPU and the machine's CUDA alone (43 → 2 MB)."""
    kept = {f"libbitsandbytes_{kind}.so" for kind in ("cpu", f"cuda{CUDA}")}
    with (
        zipfile.ZipFile(wheel) as whole,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as reduced,
    ):
        names = {Path(entry.filename).name for entry in whole.infolist()}
        if not kept <= names:
            sys.exit(f"{wheel.name} lacks {', '.join(sorted(kept - names))}")
        for entry in whole.infolist():
            if not entry.filename.endswith(".so") or Path(entry.filename).name in kept:
                reduced.writestr(entry, whole.read(entry))


def data(folder: Path) -> dict[str, Any]:
    """Encode the small set into ``folder/encoded``; the tokenizer goes beside it."""
    from meadowlark.dataset import read
    from meadowlark.records import Record
    from meadowlark.train.encode import Encoder
    from meadowlark.train.encoded import COUNTS, ROWS, Settings, encode

    with tempfile.TemporaryDirectory() as name:
        tokenizer = llama2_tokenizer(Path(name) / "llama2")
        path = mixed(Path(name) / "mixed")
        encoded = encode(path, tokenizer, Settings(max_length=100_000))
        (folder / "encoded").mkdir()
        for file in (ROWS, COUNTS):  # not the rejected rows: they hold text
            shutil.copy(encoded.folder / file, folder / "encoded")
    tokenizer.save_pretrained(folder / "tokenizer")
    small_set = next((data_folder() / "meadow/wikidoc_patient_information").glob("*.json"))
    every, _ = Encoder(tokenizer, max_length=100_000).encode(read(small_set, Record)[0])
    tokens = sum(len(example.input_ids) for example in every)
    return {
        "rows": len(encoded),
        "tokens": int(encoded.lengths.sum()),
        "supervised_tokens": int(encoded.supervised.sum()),
        "longest": int(encoded.lengths.max()),
        "epoch_rows": round(SHARE_LEFT * len(every)),
        "epoch_tokens": SHARE_LEFT * tokens,
        "epoch_is": "90 % of the published set's rows and tokens; mix drops its 92 duplicates",
    }


def size_bytes(folder: Path) -> int:
    """Of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prepare(out: Path) -> None:
    """Make ``out``, complete or not at all."""
    data_folder()  # says that there is none before anything is downloaded
    beside = Path(tempfile.mkdtemp(prefix=f"{out.name}.", dir=out.parent))
    try:
        wheels(beside / "wheels")
        manifest = {
            "python": PYTHON,
            "data": data(beside),
            "wheels": [path.name for path in sorted((beside / "wheels").iterdir())],
            "bytes": size_bytes(beside),
        }
        if manifest["bytes"] > LARGEST_BYTES:
            sys.exit(f"{manifest['bytes']:,} bytes are more than the {LARGEST_BYTES:,} that travel")
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        beside.chmod(0o755)
        beside.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


HOW = """{out} is ready: {rows:,} rows, {tokens:,} tokens, {wheels} wheels, {size:.1f} MB.
No GPU is found here, so nothing was timed. With the device tool, in the checkout's root:

    run: command "python3 benchmarks/gpu/run.py", carry [".bench-gpu"], timeout_s 540

or on any machine with a GPU and a Python 3.12 with torch for CUDA 13, transformers, peft,
accelerate and pyarrow, after copying this checkout with .bench-gpu:

    make bench-gpu
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".bench-gpu")
    out = parser.parse_args().out
    if not (out / "manifest.json").exists():
        prepare(out)
    manifest = json.loads((out / "manifest.json").read_text())
    print(
        HOW.format(
            out=out.name,
            rows=manifest["data"]["rows"],
            tokens=manifest["data"]["tokens"],
            wheels=len(manifest["wheels"]),
            size=manifest["bytes"] / 1e6,
        )
    )


if __name__ == "__main__":
    main()
