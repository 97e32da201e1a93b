"""Flashcards, wiki pages, abstracts, summaries and conversations from their raw forms."""

import csv
import json
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from reading import split

from meadowlark.errors import UserError
from meadowlark.records import Rejected, Turn
from meadowlark.sources.convert import convert
from meadowlark.sources.mediawiki import plain

NOTES = [
    ("What carries <b>oxygen</b>?\x1fHaemoglobin, 13.2 g/dl", "blood"),
    ("Look: <img src='heart.jpg'>\x1fThe heart", ""),
    ("{{c1::Insulin::a hormone}} lowers {{c2::glucose}}; {{c1::it}} is a peptide.\x1f", "endo"),
    ("Front only\x1f ", ""),
    ("What carries <b>oxygen</b>?\x1fHaemoglobin, 13.2 g/dl", "blood"),
]


def collection(path: Path) -> bytes:
    database = sqlite3.connect(path)
    database.execute("create table notes (id integer, flds text, tags text)")
    database.executemany(
        "insert into notes values (?, ?, ?)", [(n, *v) for n, v in enumerate(NOTES)]
    )
    database.commit()
    database.close()
    return path.read_bytes()


@pytest.mark.parametrize("name", ["collection.anki2", "collection.anki21", "collection.anki21b"])
def test_anki_packages_old_and_new_give_the_same_cards(name: str, tmp_path: Path) -> None:
    content = collection(tmp_path / "c.sqlite")
    if name.endswith("21b"):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as out:
            out.write(content)
        content = sink.getvalue().to_pybytes()
    raw = tmp_path / "deck.apkg"
    with zipfile.ZipFile(raw, "w") as package:
        package.writestr(name, content)
    kept, rejected = split("medical_flashcards", raw)
    assert [(row.input, row.output) for row in kept] == [
        ("What carries **oxygen**?", "Haemoglobin, 13.2 g/dl"),
        ("____ (a hormone) lowers glucose; ____ is a peptide.", "Insulin; it"),
        ("Insulin lowers ____; it is a peptide.", "glucose"),
    ]
    assert [r.reason for r in rejected] == [
        "card with an image or sound",
        "no answer",
        "duplicate note",
    ]


def test_an_exported_text_file_is_read_with_its_heads(tmp_path: Path) -> None:
    raw = tmp_path / "cards.txt"
    raw.write_text(
        "#separator:tab\n#html:true\n#guid column:1\n#tags column:4\n"
        'x1\tWhat is &lt;pH&gt;?\t"A ""measure""\tof acids"\tacid base\n'
        "x2\tAlone\t\t\n",
        encoding="utf-8",
    )
    kept, rejected = split("medical_flashcards", raw)
    assert [(r.input, r.output, r.tags["topic"]) for r in kept] == [
        ("What is <pH>?", 'A "measure" of acids', "acid base")
    ]
    assert [r.reason for r in rejected] == ["no answer"]
    with zipfile.ZipFile(tmp_path / "no.apkg", "w") as package:
        package.writestr("media", "{}")
    with pytest.raises(UserError, match="no Anki package"):
        split("medical_flashcards", tmp_path / "no.apkg")


WIKI = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
<page><title>Asthma</title><ns>0</ns><revision><text>{{Infobox|a={{b}}}}
'''Asthma''' is a long-term disease of the airways of the [[lung|lungs]].&lt;ref&gt;No.&lt;/ref&gt;
== Causes ==
* [[Pollen]] and dust, in most of the people who have it
* cold air &amp;ge; 5 minutes
=== Rare ===
Short.
== References ==
A list of many works that nobody should be taught to write.
[[Category:Lungs]]</text></revision></page>
<page><title>Asthmas</title><ns>0</ns><redirect title="Asthma"/><revision><text/></revision></page>
<page><title>Talk:Asthma</title><ns>1</ns><revision><text>Words of editors, not of it.
</text></revision></page>
</mediawiki>"""


def test_wiki_pages_become_one_row_a_section_from_xml_and_html(tmp_path: Path) -> None:
    raw = tmp_path / "wiki.xml"
    raw.write_text(WIKI)
    kept, rejected = split("wikidoc", raw)
    assert [row.input for row in kept] == [
        "What is Asthma?",
        "What should be known about Asthma: causes?",
    ]
    assert kept[0].output == "Asthma is a long-term disease of the airways of the lungs."
    assert "- Pollen and dust" in kept[1].output
    assert "cold air ≥ 5 minutes" in kept[1].output
    assert [(r.reason, r.row.tags["heading"]) for r in rejected] == [
        ("too short", "Causes > Rare"),
        ("section of links", "References"),
    ]
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_text(
        "<html><head><title>Asthma - wikidoc</title></head><body><p>Asthma is a long-term disease "
        "of the airways.</p><h2>Causes</h2><ul><li>Pollen and dust, in most of the people who have "
        "it</li></ul></body>"
    )
    from_html, _ = split("wikidoc", folder)
    assert [row.input for row in from_html] == [row.input for row in kept]
    raw.write_text(WIKI[:-200])
    assert [r.reason for r in split("wikidoc", raw)[1]][-1] == "malformed XML"


def test_a_raised_number_of_wikitext_does_not_become_another_number() -> None:
    """What MediaWiki shows of these, but for marks of references: 10 to the 9th is no 109."""
    assert plain("3 x 10<sup>9</sup>/L of Ca<sup>2+</sup>, the 5<sup>th</sup>, H<sub>2</sub>O") == (
        "3 x 10^9/L of Ca^2+, the 5th, H2O"
    )
    assert plain("{{convert|5|mg}} a day<ref>[[A]]</ref><br/>or {{nowrap|10 mg}}.") == (
        "5 mg a day\nor 10 mg."
    )
    assert plain("__NOTOC__\n* a\n** b\n; Term : its sense\n: more [[es:Asma]] ~~~~") == (
        "- a\n  - b\nTerm: its sense\nmore"
    )
    assert (
        plain("<nowiki>[1]</nowiki> of <math>x^2</math> in [[MRI: T2|MRI]]")
        == "[1] of $x^2$ in MRI"
    )


PAGE = """<!DOCTYPE html><html><head>
<meta charset="{}"><title>Gout overview - wikidoc</title></head>
<body><div id="content"><h1 id="firstHeading">Gout overview</h1>
<div id="siteSub">From wikidoc</div><div id="mw-content-text"><div class="mw-parser-output">
<p><b>Editor-In-Chief:</b> A. Body, M.D. <a class="external autonumber" href="mailto:x">[1]</a></p>
<div id="toc" class="toc"><h2>Contents</h2>
<ul><li><a href="#Overview">1 Overview</a></li></ul></div>
<h2><span class="mw-headline">Overview</span><span class="mw-editsection">[<a>edit</a>]</span></h2>
<p>Gout was known to Ménière.<sup class="reference"><a href="#n1">[1]</a></sup> It hurts, and
2 x 10<sup>7</sup> people have it.<sup class="noprint reference">[2]</sup></p>
<div class="thumb"><div class="thumbcaption">A toe, photographed in the year 1900.</div></div>
<h2><span class="mw-headline">References</span><span class="mw-editsection">[edit]</span></h2>
<ol class="references"><li>A long citation of a paper that nobody should learn.</li></ol>
</div></div><div class="printfooter">Retrieved from here and nowhere else, as it seems.</div></div>
<div id="footer"><p>This page was last modified on some day by a user of this wiki.</p></div></body>
</html>"""


@pytest.mark.parametrize(
    ("named", "encoding"), [("utf-8", "utf-8"), ("windows-1252", "cp1252"), ("utf-8", "utf-16")]
)
def test_of_a_wiki_page_only_its_article_is_read(named: str, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "gout.html").write_bytes(PAGE.format(named).encode(encoding))
    kept, rejected = split("wikidoc", tmp_path)
    assert [(row.input, row.output, row.tags["heading"]) for row in kept] == [
        (
            "What is Gout?",
            "Gout was known to Ménière. It hurts, and 2 x 10^7 people have it.",
            "Overview",
        )
    ]
    assert rejected == []


def test_a_wiki_page_in_an_encoding_that_it_does_not_name_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(PAGE.format("utf-8").encode("cp1252"))
    (tmp_path / "b.html").write_text(PAGE.format("klingon"))
    kept, rejected = split("wikidoc", tmp_path)
    assert kept == []
    assert [row.reason for row in rejected] == ["not UTF-8"] * 2


def test_an_exports_pages_without_a_title_are_rejected(tmp_path: Path) -> None:
    text = "Asthma is a long-term disease of the airways of the lungs."
    (tmp_path / "w.xml").write_text(
        "<mediawiki><page><ns>0</ns><revision><text>Nobody's</text></revision></page><page><title>"
        f"Asthma</title><revision><text>An old text.</text></revision><revision><text>{text}</text>"
        "</revision></page></mediawiki>"
    )
    kept, rejected = split("wikidoc", tmp_path / "w.xml")
    assert [(row.input, row.output) for row in kept] == [("What is Asthma?", text)]
    assert [(row.reason, row.detail) for row in rejected] == [("page without a title", "Nobody's")]


def test_abstracts_lose_no_row_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    raw = tmp_path / "metadata.csv"
    good = b'u1,"A title, with comma","Line one.\nLine ""two"".",cc0,x\n'
    raw.write_bytes(
        b"cord_uid,title,abstract,license,extra\n"
        + good
        + b"u2,T,,cc0,x\nu3,,An abstract.,cc0,x\nu4,caf\xe9,A.,cc0,x\nu5,T,A.,cc0\nu1,T,A.,cc0,x\n"
    )
    kept, rejected = split("cord19", raw)
    assert [(row.input, row.output) for row in kept] == [
        ('Line one.\nLine "two".', "A title, with comma")
    ]
    assert sorted(r.reason for r in rejected) == [
        "duplicate id",
        "no abstract",
        "no title",
        "not UTF-8",
        "wrong number of columns",
    ]
    assert split("cord19", raw, wording="published")[0][0].instruction == (
        "Please summerize the given abstract to a title"
    )
    raw.write_text("question,answer\na,b\n")
    with pytest.raises(UserError, match="cord_uid"):
        split("cord19", raw)


def test_a_file_of_columns_without_articles_has_no_rows(tmp_path: Path) -> None:
    raw = tmp_path / "metadata.csv"
    raw.write_text("cord_uid,title,abstract,license\n")
    assert split("cord19", raw) == ([], [])


def test_articles_are_the_same_however_the_file_falls_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """White space of any kind is no title, a rejected row's id is not used up, and a second copy is
    one in whichever block it stands."""
    spaces = ["", " ", "\u00a0\u2003", "\x1c", "\u0085", "\u200b"]  # the last is no white space
    raw = tmp_path / "metadata.csv"
    with raw.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cord_uid", "title", "abstract", "license"])
        for n in range(400):
            title = spaces[n % 7] if n % 7 < len(spaces) else "T"
            writer.writerow([f"u{n % 90}", title, "" if n % 11 == 0 else f" Abstract {n} ", "cc0"])
    whole = split("cord19", raw)
    monkeypatch.setattr("meadowlark.sources.cord19.BLOCK", 1000)
    assert split("cord19", raw) == whole
    seen: set[str] = set()
    expected = []
    for n in range(400):
        title = spaces[n % 7] if n % 7 < len(spaces) else "T"
        if n % 11 and title.strip() and f"u{n % 90}" not in seen:
            seen.add(f"u{n % 90}")
            expected.append(f"Abstract {n}")
    assert [row.input for row in whole[0]] == expected
    assert {r.reason for r in whole[1]} == {"no abstract", "no title", "duplicate id"}


def test_each_answer_of_mediqa_makes_four_rows_as_published_or_one(tmp_path: Path) -> None:
    answer = {
        "article": "Long text.",
        "section": "Text.",
        "answer_abs_summ": "In my words.",
        "answer_ext_summ": "Text.",
        "rating": "3",
    }
    raw = tmp_path / "ans.json"
    raw.write_text(json.dumps({"1": {"question": "Why?", "answers": {"1_A": answer, "1_B": {}}}}))
    kept, rejected = split("mediqa", raw)
    assert len(kept) == 4
    assert [r.reason for r in rejected] == ["no text"] * 4
    assert kept[0].input == "Question: Why?\n\nText: Long text."
    assert len(split("mediqa", raw, summaries="section")[0]) == 1
    raw.write_text("[]")
    with pytest.raises(UserError, match="MEDIQA-AnS"):
        split("mediqa", raw)


def message(
    id: str, role: str, replies: tuple[object, ...] = (), **more: object
) -> dict[str, object]:
    return {"message_id": id, "role": role, "text": f"text {id}", "lang": "en",
            "replies": list(replies), **more}  # fmt: skip


def test_message_trees_become_conversations(tmp_path: Path) -> None:
    tree = message(
        "p", "prompter",
        (
            message("worse", "assistant", rank=1),
            message("best", "assistant", (
                message("q", "prompter", (message("end", "assistant"),)),
            ), rank=0),
            message("gone", "assistant", deleted=True),
        ),
    )  # fmt: skip
    german = message("g", "prompter", (message("h", "assistant"),), lang="de")
    alone = message("alone", "prompter", (message("r", "prompter"),))
    raw = tmp_path / "trees.jsonl"
    lines = [
        json.dumps({"message_tree_id": t["message_id"], "prompt": t}) for t in (tree, german, alone)
    ]
    raw.write_text("\n".join([*lines, "{broken"]))
    kept, rejected = split("oasst", raw)
    assert len(kept) == 1
    assert kept[0].history == (Turn("user", "text p"), Turn("assistant", "text best"))
    assert (kept[0].instruction, kept[0].output) == ("text q", "text end")
    assert [r.reason for r in rejected] == ["another language", "no answer", "not JSON"]
    everything, _ = split("oasst", raw, paths="all", language="any")
    assert [row.output for row in everything] == ["text end", "text worse", "text h"]


def test_messages_in_any_order_make_the_trees_that_they_came_from(tmp_path: Path) -> None:
    flat = [
        {"message_id": "b", "parent_id": "a", "role": "assistant", "text": "A.", "lang": "en",
         "labels": {"name": ["spam", "quality"], "value": [0.0, 0.25]}},
        {"message_id": "a", "parent_id": None, "role": "prompter", "text": "Q?", "lang": "en"},
        {"message_id": "c", "parent_id": "zz", "role": "assistant", "text": "lost", "lang": "en"},
        {"message_id": "a", "parent_id": None, "role": "prompter", "text": "Q?", "lang": "en"},
    ]  # fmt: skip
    raw = tmp_path / "messages.jsonl"
    raw.write_text("\n".join(map(json.dumps, flat)))
    kept, rejected = split("oasst", raw)
    assert [(row.instruction, row.output) for row in kept] == [("Q?", "A.")]
    assert sorted(r.reason for r in rejected) == ["duplicate id", "message without its parent"]
    _, strict = split("oasst", raw, quality="0.5")
    assert any(r.reason == "low quality" and "0.25" in r.detail for r in strict)
    with pytest.raises(UserError, match="not a number"):
        split("oasst", raw, quality="high")


def test_real_trees_and_real_messages_of_the_same_export_give_the_same_rows(
    real_data: Path,
) -> None:
    folder = real_data / "meadow/oasst"
    trees = split("oasst", folder / "en_100_tree.jsonl", paths="all")
    assert trees == split("oasst", folder / "en_100_message.jsonl", paths="all")
    assert len(split("oasst", folder / "en_100_tree.jsonl")[0]) == 100


def test_a_wrong_file_says_which_source_it_looks_like(tmp_path: Path, real_data: Path) -> None:
    with pytest.raises(UserError, match=r"looks like a file of medmcqa\."):
        convert("chatdoctor", tmp_path / "a", raw=real_data / "exams/medmcqa/dev.json")
    posts = real_data / "meadow/stackexchange_format/Posts_b.xml"
    with pytest.raises(UserError, match=r"looks like a file of stackexchange\."):
        convert("pubmed_causal", tmp_path / "b", raw=posts)


def test_a_rejected_row_is_counted_even_if_the_file_is_only_that(tmp_path: Path) -> None:
    raw = tmp_path / "m.jsonl"
    raw.write_text('{"question": "Q", "answer": "x", "options": {"A": "y"}, "answer_idx": "A"}\n')
    run = convert("medqa", tmp_path / "out", raw=raw)
    assert run.manifest.rows["rejected"] == {"answer is none of the options": 1}
    assert isinstance(split("medqa", raw)[1][0], Rejected)
