"""Stack Exchange dumps: answers by three rules, hostile and broken XML, real dumps, .7z."""

import re
import zipfile
from html import escape
from pathlib import Path

import pytest
from reading import split

from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.sources import SOURCES
from meadowlark.sources.convert import convert
from meadowlark.sources.stackexchange import hub_rows


def post(**values: object) -> str:
    return "<row " + " ".join(f'{k}="{escape(str(v))}"' for k, v in values.items()) + " />"


POSTS = [
    post(Id=1, PostTypeId=1, Title="Why <i>rest</i>?", Body="<p>My knee.</p>", Tags="<knee><rest>",
         AcceptedAnswerId=3, ContentLicense="CC BY-SA 3.0"),
    post(Id=2, PostTypeId=2, ParentId=1, Score=5, Body="<p>Five.</p>", ContentLicense="BY-SA 4"),
    post(Id=3, PostTypeId=2, ParentId=1, Score=4, Body="<p>Four.</p>"),
    post(Id=4, PostTypeId=2, ParentId=1, Score=9, Body="<p>Nine.</p>"),
    post(Id=5, PostTypeId=1, Title="Bare", Body="<p>No answer.</p>"),
    post(Id=6, PostTypeId=2, ParentId=99, Score=9, Body="<p>Orphan.</p>"),
    post(Id=7, PostTypeId=5, Body="A tag's wiki", Score=50),
    post(Id=8, PostTypeId=2, ParentId=5, Score=6, Body="<p> </p>"),
    post(Id=4, PostTypeId=2, ParentId=1, Score=9, Body="<p>Again.</p>"),
    post(Id="x", PostTypeId=2, ParentId=1, Score=9, Body="<p>Bad.</p>"),
]  # fmt: skip


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    folder = tmp_path / "health.stackexchange.com"
    folder.mkdir()
    text = '\ufeff<?xml version="1.0" encoding="utf-8"?>\n<posts>\n' + "\n".join(POSTS)
    (folder / "Posts.xml").write_text(text + "\n</posts>\n", encoding="utf-8")
    return folder / "Posts.xml"


@pytest.mark.parametrize(
    ("answers", "posts"), [("voted", ["4", "2"]), ("best", ["4"]), ("accepted", ["3"])]
)
def test_answers_are_chosen_by_votes_by_rank_or_by_the_asker(
    answers: str, posts: list[str], dump: Path
) -> None:
    kept, _ = split("stackexchange", dump, answers=answers)
    assert [row.tags["post"] for row in kept] == posts
    assert kept[0].instruction == "Why <i>rest</i>?", "a title is text, not HTML"
    assert kept[0].input == "My knee."
    assert kept[0].tags["topic"] == "knee rest"
    assert kept[0].tags["site"] == "health", "the folder's name says which site it is"


def test_every_unusable_post_is_counted_with_its_reason(dump: Path) -> None:
    kept, rejected = split("stackexchange", dump)
    assert sorted(r.reason for r in rejected) == [
        "answer without its question",
        "duplicate id",
        "no answer",
        "not a post",
    ]
    assert kept[1].tags["licences"] == "BY-SA 4 CC BY-SA 3.0"


def test_a_number_that_no_post_can_have_is_rejected_and_its_neighbours_kept(dump: Path) -> None:
    text = dump.read_text(encoding="utf-8")
    dump.write_text(text.replace('Id="5"', f'Id="{10**30}"', 1), encoding="utf-8")
    kept, rejected = split("stackexchange", dump)
    assert [row.tags["post"] for row in kept] == ["4", "2"]
    details = [r.detail for r in rejected if r.reason == "not a post"]
    assert len(details) == 2
    assert details[0].startswith("post 5: ")
    assert details[1].startswith("post 10: ")


def test_a_large_dump_is_made_into_the_same_rows_by_other_processes(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posts = [
        post(Id=2 * n + q, PostTypeId=1 + q, ParentId=2 * n, Score=n % 9, Title=f"T{n}",
             Body=f"<p>Is <b>{n}</b> a number?</p>")
        for n in range(1, 3000)
        for q in (0, 1)
    ]  # fmt: skip
    dump.write_text("<posts>\n" + "\n".join(posts) + "\n</posts>", encoding="utf-8")
    kept, rejected = split("stackexchange", dump)
    monkeypatch.setattr("meadowlark.sources.stackexchange.BLOCK", 50)
    monkeypatch.setattr("meadowlark.sources.posts_xml.PIECE", 10_000)
    convert("stackexchange", tmp_path / "out", raw=dump)
    assert read(tmp_path / "out", Record) == (kept, [])
    assert len(kept) == sum(n % 9 >= 5 for n in range(1, 3000))
    assert not rejected
    convert("stackexchange", tmp_path / "few", raw=dump, limit=1003)
    assert read(tmp_path / "few", Record)[0] == kept[:1003]


def test_a_dump_cut_off_keeps_what_was_read(dump: Path) -> None:
    dump.write_text(dump.read_text(encoding="utf-8")[:-300], encoding="utf-8")
    kept, rejected = split("stackexchange", dump)
    assert [row.tags["post"] for row in kept] == ["4", "2"]
    assert any(r.reason == "malformed XML" and "after" in r.detail for r in rejected)


def test_a_file_that_is_no_dump_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "Posts.xml"
    for text in ("", "<html><p>x</p></html>", "not xml"):
        raw.write_text(text)
        with pytest.raises(UserError, match=r"Posts\.xml"):
            split("stackexchange", raw)
    bomb = '<!DOCTYPE posts [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]><posts>&b;</posts>'
    raw.write_text(bomb)
    with pytest.raises(UserError, match="declares entities"):
        split("stackexchange", raw)


def test_an_html_bomb_is_rejected_and_its_neighbours_kept(tmp_path: Path) -> None:
    deep = "<div>" * 50_000 + "x"
    posts = [
        post(Id=1, PostTypeId=1, Title="Q", Body="<p>b</p>"),
        post(Id=2, PostTypeId=2, ParentId=1, Score=9, Body=deep),
        post(Id=3, PostTypeId=2, ParentId=1, Score=8, Body="<p>" + "y" * 2_000_001),
        post(Id=4, PostTypeId=2, ParentId=1, Score=7, Body="<p>Good.</p>"),
    ]
    raw = tmp_path / "Posts.xml"
    raw.write_text("<posts>" + "".join(posts) + "</posts>")
    kept, rejected = split("stackexchange", raw)
    assert kept[-1].output == "Good."
    assert [r.reason for r in rejected if r.reason != "no answer"] == ["too long"]


def test_a_dump_is_read_out_of_zip_and_7z_by_py7zr(dump: Path, tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    plain = split("stackexchange", dump, site="health")
    zipped, packed = tmp_path / "posts.zip", tmp_path / "health.stackexchange.com.7z"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(dump, "Posts.xml")
    with py7zr.SevenZipFile(packed, "w") as archive:
        archive.write(dump, "Posts.xml")
    assert split("stackexchange", zipped, site="health") == plain
    assert split("stackexchange", packed) == plain
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(UserError, match="7z"):
        split("stackexchange", packed)


def test_the_hub_set_is_cut_to_the_five_sites_and_five_votes() -> None:
    def item(site: str, *answers: tuple[int, bool]) -> dict[str, object]:
        return {
            "qid": 1,
            "question": "<p>Why?</p>",
            "metadata": [f"https://{site}.stackexchange.com/questions/1", "", ""],
            "answers": [
                {"answer_id": n, "pm_score": score, "selected": selected, "text": f"<p>{n}</p>"}
                for n, (score, selected) in enumerate(answers)
            ],
        }

    items = [
        item("biology", (3, True), (3, False), (4, True), (2, False)),
        item("cooking", (9, False)),
    ]
    rows = list(hub_rows(items))
    # An accepted answer's score is one more than its votes make it: 3 are then fewer than five.
    assert [row.output for row in rows if isinstance(row, Record)] == ["2", "1"]
    assert all(row.tags["site"] == "biology" for row in rows if isinstance(row, Record))


def test_convert_writes_the_chosen_rule_into_the_manifest(
    dump: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert run(["convert", "stackexchange", "--raw", str(dump), "--out", out]) == 0
    assert read_manifest(tmp_path / "out").options["answers"] == "voted"
    rows, _ = read(tmp_path / "out", Record)
    assert len(rows) == 2
    best = ["convert", "stackexchange", "--raw", str(dump), "--out", out, "--answers", "best"]
    assert run(best) == 2, "another rule is another data set"
    assert "answers" in capsys.readouterr().err
    assert run([*best[:-1], "bast"]) == 2
    assert "Did you mean 'best'" in capsys.readouterr().err
    assert run(["convert", "medquad", "--answers", "best", "--out", out]) == 2
    assert "medquad has no --answers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "voted", "best", "accepted"), [("a", 133, 200, 83), ("b", 417, 616, 259)]
)
def test_real_dumps_give_the_answers_that_a_plain_reading_counts(
    name: str, voted: int, best: int, accepted: int, real_data: Path
) -> None:
    """Counted again by xml.etree in a second way, beside the numbers seen once."""
    from xml.etree import ElementTree

    raw = real_data / f"meadow/stackexchange_format/Posts_{name}.xml"
    posts = [row.attrib for row in ElementTree.parse(raw).getroot()]
    questions = {p["Id"]: p for p in posts if p["PostTypeId"] == "1"}
    replies = [p for p in posts if p["PostTypeId"] == "2" and p["ParentId"] in questions]
    counts = {
        "voted": sum(int(p["Score"]) >= 5 for p in replies),
        "best": len({p["ParentId"] for p in replies}),
        "accepted": len(
            {q.get("AcceptedAnswerId") for q in questions.values()} & {p["Id"] for p in replies}
        ),
    }
    for answers, expected in (("voted", voted), ("best", best), ("accepted", accepted)):
        kept, rejected = split("stackexchange", raw, answers=answers)
        empty = sum(r.reason == "no answer" for r in rejected)
        assert len(kept) == expected
        assert len(kept) + empty == counts[answers]


def test_real_posts_lose_no_word_on_their_way_to_markdown_by_lxml(real_data: Path) -> None:
    """The words of each body as lxml finds them are the words of the Markdown, in their order."""
    from xml.etree import ElementTree

    from lxml import html as parser

    from meadowlark.sources.markdown import to_markdown

    def words(text: str) -> list[str]:
        bare = re.sub(r"\[image(?:: [^]]*)?\]|\]\((?:<[^>]*>|https?://[^)]*)\)|\[", " ", text)
        return re.findall(r"\w+", re.sub("[*~`]", "", bare))

    seen = 0
    for name in "ab":
        raw = real_data / f"meadow/stackexchange_format/Posts_{name}.xml"
        for row in ElementTree.parse(raw).getroot():
            body = row.attrib.get("Body", "")
            if not body:
                continue
            seen += 1
            apart = re.sub(r"<(?=br|/?t[dhr]|/?li|/?p|/?a\b|/?su[bp])", " <", body)
            tree = parser.fragment_fromstring(apart, create_parent="div")
            plain = [w for w in words(tree.text_content().replace("_", " ")) if w]
            made = [w for w in words(to_markdown(body).replace("_", " ")) if w]
            numbers = {str(n) for n in range(1, 40)} if "<ol" in body else set()
            assert [w for w in made if w not in numbers] == [w for w in plain if w not in numbers]
    assert seen > 1500


def test_markdown_is_read_back_as_the_same_structure_by_markdown_it() -> None:
    from markdown_it import MarkdownIt

    from meadowlark.sources.markdown import to_markdown

    source = (
        "<h2>Why?</h2><p>Take <strong> 5&nbsp;mg </strong>of <code>a`b</code>, see "
        '<a href="https://a.org/b">the page</a>.<br>Then:</p>'
        "<ol><li>rest<ul><li>at home</li></ul></li><li>drink</li></ol>"
        "<blockquote><p>One</p><p>Two</p></blockquote>"
        "<pre><code>if x &lt; 3:\n    stop ```\n</code></pre>"
        '<p>x<sup>2</sup> <img src="a.png" alt="a knee"></p><script>alert(1)</script>'
    )
    made = to_markdown(source)
    back = MarkdownIt().render(made)
    for part in (
        "<h2>Why?</h2>",
        "<strong>5 mg</strong>",
        "<code>a`b</code>",
        '<a href="https://a.org/b">the page</a>',
        "<ol>\n<li>rest\n<ul>\n<li>at home</li>\n</ul>\n</li>\n<li>drink</li>\n</ol>",
        "<blockquote>\n<p>One</p>\n<p>Two</p>\n</blockquote>",
        "if x &lt; 3:\n    stop ```",
    ):
        assert part in back, (part, made)
    assert "x^2" in made
    assert "[image: a knee]" in made
    assert "alert" not in made


def test_a_card_says_that_the_source_has_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sources", "stackexchange"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--answers voted|best|accepted" in shown
    assert set(SOURCES["stackexchange"].settings) == {"answers", "site"}
