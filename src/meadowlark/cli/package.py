"""``meadowlark package``: a folder that any server loads, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Out, stdout, summarise


def package(
    checkpoint: Annotated[Path, typer.Argument(help="A folder that train wrote.")],
    out: Out,
    merge: Annotated[bool, typer.Option("--merge", help="Merge an adapter into its base.")] = False,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="Weights in bfloat16, float16 or float32; see above."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="FOLDER_OR_ID", help="Where the base to merge into is now."),
    ] = None,
    base_name: Annotated[
        str | None,
        typer.Option("--base-name", metavar="ORG/NAME", help="The base's hub id, for the card."),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", help="Prompt template of a folder that train did not make."),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option("--scores", help="Evaluation folder whose scores the card shows; repeatable."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="The hub's licence id, where it is not to be worked out."),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", help="Language code of the data (default en); repeatable."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload to the hub, privately."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: for all to see.")] = False,
    force: Force = False,
) -> None:
    """Make a folder that any server loads from a trained model, with a model card.

    Full weights, an adapter, or an adapter merged into its base (in float32,
    always the unquantised one), as safetensors, with configuration and tokenizer
    that transformers 4 and 5, vLLM and llama.cpp read alike, and a Modelfile for
    Ollama. That the package renders prompts as training did is proved, token for
    token, before it is finished.

    Full and merged weights are stored in bfloat16: half of float32's memory with
    its range; in float16 where that was trained with or is what a published
    checkpoint is known for. Adapters stay as trained.

    The card names data, licences, options and results from the manifests, and
    opens with the warning that this is for research only. --push takes its key
    from HF_TOKEN or `hf auth login`, and uploads privately unless --public.

    \b
    Examples:
      meadowlark package runs/tuned --out runs/packaged --scores runs/exam
      meadowlark package runs/adapter --merge --out runs/merged
      meadowlark package medalpaca-7b --template medalpaca --out packaged
      meadowlark package runs/tuned --out runs/packaged --push ORG/NAME
    """
    from meadowlark.errors import UserError

    if public and push is None:
        raise UserError("--public says how to --push; give --push OWNER/NAME too")
    if push is not None:
        from meadowlark.train.push import check_repository

        check_repository(push)
    from meadowlark.train.package import package as stage

    run = stage(
        checkpoint,
        out,
        merge=merge,
        dtype=dtype,
        base=base,
        base_name=base_name,
        template=template,
        scores=scores or (),
        licence=licence,
        languages=language or ("en",),
        force=force,
    )
    summarise(run, out, done_before=run.done_before)
    if push is not None:
        from meadowlark.train.push import push as upload

        address = upload(out, push, public=public)
        stdout.print(f"  {'public' if public else 'private'} at {address}", markup=False)
