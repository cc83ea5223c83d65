"""The documentation keeps its promises: its code runs, its links lead somewhere, its commands are these."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

import documents
from documents import ROOT, Block, Walk, name_of, read_blocks

PAGES = documents.pages()
TUTORIALS = documents.tutorials()
FRONT = ROOT / "README.md"
SOURCE = ROOT / "src" / "passband"


def page(*blocks: str) -> list[Block]:
    return read_blocks("\n".join(blocks), "page.md")


RUNNING = [p for p in PAGES if p not in TUTORIALS and any(b.runs for b in documents.blocks_of(p))]


@pytest.mark.parametrize("path", RUNNING, ids=name_of)
def test_the_code_of_a_page_runs_from_its_first_line_to_its_last(path: Path, tmp_path: Path) -> None:
    documents.run_page(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=name_of)
def test_a_tutorial_runs_and_makes_the_pictures_it_shows(path: Path, tmp_path: Path) -> None:
    if not documents.run_page(path, tmp_path):
        pytest.skip("PASSBAND_DATA does not hold what it shows")
    assert documents.pictures_of(path)
    for name in documents.pictures_of(path):
        assert (tmp_path / name).stat().st_size > 5_000, f"{name}: renew it by `make tutorials`"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_block_is_run_read_or_says_why_not(path: Path) -> None:
    assert [f"{b.place}: {b.fault}" for b in documents.blocks_of(path) if b.fault] == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_and_picture_is_there(path: Path) -> None:
    lost = []
    for link in documents.links_of(path):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in documents.anchors_of(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_file_and_command_of_the_repository_that_is_named_is_there(path: Path) -> None:
    text = path.read_text("utf-8")
    rooms = "|".join(p.name for p in SOURCE.iterdir() if p.is_dir())
    lost = [f for f in re.findall(rf"(?<![\w/])((?:{rooms})/\w+\.py)", text) if not (SOURCE / f).exists()]
    lost += [
        f
        for f in re.findall(r"(?<![\w/])((?:studies|benchmarks|tests)/\w+\.py)", text)
        if not (ROOT / f).exists()
    ]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    lost += [f"make {t}" for t in re.findall(r"(?:`|^)make ([\w-]+)", text, flags=re.M) if t not in targets]
    for name in re.findall(r"`(passband\.[\w.]+)", text):
        pkgutil.resolve_name(name)
    assert lost == []


def test_the_front_page_is_one_screen() -> None:
    assert len(FRONT.read_bytes()) <= 6_000


def test_every_page_is_reached_from_the_front_page() -> None:
    seen, waiting = set(), [FRONT]
    while waiting:
        path = waiting.pop().resolve()
        if path not in seen and path.suffix == ".md":
            seen.add(path)
            links = (link.partition("#")[0] for link in documents.links_of(path))
            waiting += [path.parent / link for link in links if link and not link.startswith("http")]
    assert [name_of(p) for p in PAGES if p.resolve() not in seen] == []


def test_the_commands_are_those_of_the_command_line() -> None:
    made = documents.commands_page()
    told = documents.COMMANDS.read_text("utf-8")
    assert told == made, "docs/commands.md is not what the command line says: renew it by `make commands`"
    for words, command in documents.all_commands():
        for parameter in command.params if words else ():
            for name in (*parameter.opts, *parameter.secondary_opts):
                assert name == parameter.name or f"`{name}`" in told


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_command_told_in_passing_is_a_command_with_such_options(path: Path) -> None:
    known = {" ".join(words): command for words, command in documents.all_commands()}
    text = path.read_text("utf-8")
    for told in re.findall(r"`passband ([a-z][^`]*)`", text):
        words = told.split(" | ")[0].split()
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
        assert name, f"{name_of(path)}: no command `passband {told}`"
        options = {o for p in known[name].params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        assert {w for w in words if w.startswith("--")} <= options, f"{name_of(path)}: `passband {told}`"


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("```\npassband info\n```", "the language is ''"),
        ("```bash\npassband info\n```", "the language is 'bash'"),
        ("<!-- not run: -->\n```sh\npassband info\n```", "gives no reason"),
        ("<!-- not run -->\n```sh\npassband info\n```", "gives no reason"),
        ("<!-- file: -->\n```toml\na = 1\n```", "gives no name"),
        ("```toml\na = 1\n```", "nothing reads"),
        ("<!-- prints -->\n```sh\npassband info\n```", "only a text block"),
        ("<!-- not run: it takes an hour -->\n```sh\nmake pairs\n```", ""),
        ("```text\nanything\n```", ""),
    ],
)
def test_a_block_that_promises_nothing_is_a_fault(block: str, fault: str) -> None:
    (found,) = page(block)
    assert fault in found.fault and bool(fault) == bool(found.fault)


def test_a_block_that_is_not_closed_is_a_fault() -> None:
    with pytest.raises(ValueError, match=r"page\.md:2: the block is not closed"):
        page("text", "```sh", "passband info")


def test_a_walk_runs_python_and_commands_and_compares(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    walk = Walk()
    for block in page(
        "<!-- file: lens.txt -->\n```toml\n580\n```",
        "```python\nfrom pathlib import Path; lens = Path('lens.txt').read_text().strip()\n```",
        "```python\nprint(lens)\n```",
        "<!-- prints -->\n```text\n580\n```",
        "<!-- unseen\n```sh\npassband ctf --defocus 580 --json > ctf.json # with a comment\n```\n-->",
        "```sh\npassband assess \\\n  nothing.tif # exit status 2\ncat lens.txt\n```",
        "<!-- prints -->\n```text\n580\n```",
        "<!-- not run: it would take the page with it -->\n```sh\nfalse\n```",
    ):
        walk.take(block)
    assert (tmp_path / "ctf.json").read_text().startswith("{")


@pytest.mark.parametrize(
    ("blocks", "raised"),
    [
        ("```sh\npassband ctf --nonsense\n```", "ends with status 2"),
        ("```sh\npassband ctf # exit status 3\n```", "ends with status 0"),
        ("```sh\nfalse\n```", "ends with status 1"),
        ("```python\nprint(1)\n```\n<!-- prints -->\n```text\n2\n```", "it prints"),
        ("```python\nassert False, 'it breaks'\n```", "it breaks"),
    ],
)
def test_a_page_that_is_wrong_fails(blocks: str, raised: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    walk = Walk()
    with pytest.raises(AssertionError, match=raised):
        for block in page(blocks):
            walk.take(block)
