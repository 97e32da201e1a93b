"""``meadowlark annotate``: people compare answers blindly, or review rows, in the browser."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meadowlark.cli.options import Limit, stdout, summarise
from meadowlark.errors import UserError
from meadowlark.progress import plural

if TYPE_CHECKING:
    from meadowlark.annotate.store import Store


def annotate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the study; with --export, what to write."),
    ],
    answers: Annotated[
        list[str] | None,
        typer.Argument(
            help="Two folders or files of answers to compare. NAME=PATH names a model.",
            metavar="[A B]",
        ),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="A data set to review instead.")
    ] = None,
    people: Annotated[
        str | None,
        typer.Option("--people", help="A text file with one name a line, or how many people."),
    ] = None,
    overlap: Annotated[
        float,
        typer.Option("--overlap", min=0.0, max=1.0, help="Share of items that everybody judges."),
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Seed of every order and side.")] = 42,
    limit: Limit = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8020,
    url: Annotated[
        str | None,
        typer.Option("--url", help="What links begin with, where people reach it by another name."),
    ] = None,
    new_links: Annotated[
        bool, typer.Option("--new-links", help="Make new links; the old ones become void.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", help="Write what this study's folder holds so far to --out."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", help="Write spreadsheets instead of serving: FILE.xlsx."),
    ] = None,
    sheet_in: Annotated[
        list[Path] | None,
        typer.Option("--sheet-in", help="Take a filled-in spreadsheet in. Several times."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an export or spreadsheets; never a study.")
    ] = False,
) -> None:
    """Let people compare two models' answers blindly, or review rows, in the browser.

    Compare: two folders of `meadowlark answer`, or files of other programs as
    `judge` takes them (rows with instruction and input, or prompt, and response
    or output; chats as messages; lm-eval's samples). People see prompt and
    answers, never a model's name, and judge correctness and helpfulness apart.
    Review (--rows): they accept, edit or reject each row of a data set.

    Everybody signs in by a link of their own; the links are written to
    OUT/links.txt, which only you may read, the administrator's first. Order and
    sides are drawn for each person from --seed; a share of the items goes to
    everybody (--overlap), the rest is dealt out. Each judgement is on disk before
    the page goes on: stop or kill the server at any moment, and the same command
    (or `annotate --out OUT`) goes on. Only this machine reaches the server unless
    --host says otherwise; then put a proxy with TLS before it, and give its
    address as --url.

    What was judged is written to OUT/export when the server stops, by a button of
    the administrator, or by --export: verdicts for `score`, or a data set with
    rejected.parquet. Without a server: --sheet writes one spreadsheet a person,
    --sheet-in takes them in.

    \b
    Examples:
      meadowlark annotate runs/tuned runs/untuned --people people.txt --out runs/people
      meadowlark annotate tuned=tuned.jsonl gpt-4=published/gpt-4.jsonl --people 2 \\
          --out runs/people
      meadowlark annotate --rows runs/generated --people 2 --out runs/review
      meadowlark annotate --out runs/people
      meadowlark annotate --export runs/people --out runs/verdicts
      meadowlark score runs/verdicts
      meadowlark annotate --out runs/people --sheet people.xlsx
      meadowlark annotate --out runs/people --sheet-in people-Ada.xlsx
    """
    from meadowlark.annotate.export import export as write_export
    from meadowlark.annotate.sheet import take_in, write_sheets
    from meadowlark.annotate.store import Store

    if export is not None:
        if answers or rows or sheet or sheet_in:
            raise UserError("expected: meadowlark annotate --export STUDY --out FOLDER")
        with Store(export) as store:
            run = write_export(store, out, force=force)
        summarise(run, out, done_before=run.done_before)
        return
    if answers or rows is not None:
        _set_up(answers or [], rows, out, people, overlap, seed, limit)
    if sheet is not None and sheet_in:
        raise UserError(
            "--sheet writes spreadsheets and --sheet-in takes them in: give one of them"
        )
    with Store(out, write=True) as store:
        if sheet is not None:
            for path in write_sheets(store, sheet, force=force):
                stdout.print(f"wrote {path}", markup=False)
        elif sheet_in:
            for path in sheet_in:
                person, held, new = take_in(store, path)
                stdout.print(
                    f"{path}: {plural(held, 'judgement')} by {person}, {new:,} new", markup=False
                )
        else:
            _serve(store, host, port, url, new_links)


def _set_up(
    answers: list[str],
    rows: Path | None,
    out: Path,
    people: str | None,
    overlap: float,
    seed: int,
    limit: int | None,
) -> None:
    from meadowlark.annotate.setting_up import set_up_comparison, set_up_review

    if people is None:
        raise UserError("who judges? give --people FILE (one name a line) or --people N")
    if rows is not None:
        if answers:
            raise UserError(
                "give two folders or files of answers to compare, or --rows to review, not both"
            )
        study = set_up_review(rows, out, people=people, overlap=overlap, seed=seed, limit=limit)
    else:
        if len(answers) != 2:
            raise UserError(
                f"expected two folders or files of answers to compare, got {len(answers)}"
            )
        first, second = answers
        study = set_up_comparison(
            first, second, out, people=people, overlap=overlap, seed=seed, limit=limit
        )
    if study.left_out:
        for why, count in Counter(reason for _, reason in study.left_out).items():
            stdout.print(f"not shown: {count:,} ({why})", markup=False)


def _serve(store: Store, host: str, port: int, url: str | None, new_links: bool) -> None:
    import asyncio

    from meadowlark.annotate.export import export
    from meadowlark.annotate.links import write_links
    from meadowlark.annotate.pages import NOTICE
    from meadowlark.annotate.server import EXPORT, GRACE_S, make_app
    from meadowlark.listening import is_loopback, run, take_address, url_of

    if host in ("0.0.0.0", "::", "") and not url:
        raise UserError(
            f"--host {host or chr(39) * 2} listens on every address; give --url too, the one that "
            "people reach it by, as https://annotate.example.org"
        )
    with take_address(host, port) as taken:
        base = url or url_of(host, taken)
        links = write_links(store, base, renew=new_links)

        def ready() -> None:
            stdout.print(
                f"listening on {base}. Ctrl-C stops; the same command goes on.", markup=False
            )
            stdout.print(
                f"everybody's link, the administrator's first, is in {links}", markup=False
            )
            if not is_loopback(host) and not base.startswith("https://"):
                warning = (
                    "warning: without TLS whoever is on the network can read links and answers"
                )
                stdout.print(warning, markup=False, style="yellow")
            stdout.print(NOTICE, markup=False)

        app = make_app(store, https=base.startswith("https://"))
        asyncio.run(run(app, taken, grace_s=GRACE_S, ready=ready))
    if store.judged():
        out = store.folder / EXPORT
        written = export(store, out, force=True)
        summarise(written, out, done_before=written.done_before)
    else:
        stdout.print("stopped; nothing is judged yet")
