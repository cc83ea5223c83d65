"""The pages of the documentation, read as what they promise: code to run, output, files, links.

    python tests/documents.py commands     write docs/commands.md anew (`make commands`)
    python tests/documents.py pictures     run the tutorials, keep the pictures they show (`make tutorials`)

A fenced block of a page is run where its language is ``python`` or ``sh``, in the order of the page, all in
one folder and one namespace. A comment on the line before says more:

    <!-- not run: why -->    it is left alone
    <!-- file: name -->      the block is what the file of that name holds
    <!-- with: name -->      it runs where PASSBAND_DATA holds that folder, which is then linked beside it
    <!-- prints -->          a text block: exactly what the block before it printed
    <!-- unseen              opens a comment around the block, so that a reader does not see it

A line of ``sh`` that ends in ``# exit status 3`` must end so. ``passband`` runs within this process.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import typer
from typer.testing import CliRunner

from passband.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COMMANDS = DOCS / "commands.md"
PICTURES = "pictures"
"""Folder beside a tutorial; a picture in it is made by the page under the same name."""

LANGUAGES = {"python", "sh", "toml", "csv", "text"}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: where it stands, its language and text, and what the comment before it says."""

    page: str
    line: int
    language: str
    text: str
    note: str

    @property
    def place(self) -> str:
        """Page and line, as an editor wants them."""
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is code that is run."""
        return self.language in ("python", "sh") and not self.note.startswith("not run:")

    @property
    def fault(self) -> str:
        """What is wrong with it, unrun; empty if nothing is."""
        word, _, rest = self.note.partition(":")
        if self.language not in LANGUAGES:
            return f"the language is {self.language!r}, wanted one of {sorted(LANGUAGES)}"
        if word in ("not run", "file", "with") and not rest.strip():
            return f"the comment {self.note!r} gives no {'reason' if word == 'not run' else 'name'}"
        if self.language in ("toml", "csv") and word not in ("file", "not run"):
            return "a file is shown that nothing reads: give it a name, <!-- file: name -->"
        if word == "prints" and self.language != "text":
            return "only a text block can be what was printed"
        return ""


def pages() -> list[Path]:
    """Every page whose blocks are run."""
    found = (p for p in DOCS.rglob("*.md") if "decisions" not in p.parts)
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md", *sorted(found)]


def name_of(page: Path) -> str:
    """Its place in the repository."""
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order.

    Raises
    ------
    ValueError
        If a fence is not closed.
    """
    return read_blocks(page.read_text("utf-8"), name_of(page))


def read_blocks(text: str, page: str) -> list[Block]:
    """The fenced blocks of Markdown."""
    found, note = [], ""
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if line.startswith("```"):
            body = []
            for _, inside in lines:
                if inside.startswith("```"):
                    break
                body.append(inside)
            else:
                raise ValueError(f"{page}:{number}: the block is not closed")
            found.append(
                Block(
                    page=page, line=number, language=line[3:].strip(), text="\n".join(body) + "\n", note=note
                )
            )
            note = ""
        elif line.strip():
            comment = re.fullmatch(r"<!-- *(.*?) *(-->)?", line.strip())
            note = comment[1] if comment else ""
    return found


@dataclass
class Walk:
    """A page on its way: the names it has defined and what the last block printed."""

    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    printed: str = ""
    left_out: bool = False

    def take(self, block: Block) -> None:
        """Run, write or compare a block, in the working folder.

        Raises
        ------
        AssertionError
            If a command ends with another status than the page says, or another text is printed.
        """
        if block.note.startswith("file:"):
            Path(block.note.removeprefix("file:").strip()).write_text(block.text, "utf-8")
        elif block.note == "prints":
            assert self.left_out or self.printed == block.text, f"{block.place}: it prints\n{self.printed}"
        elif block.note.startswith("with:") and not _linked(block.note.removeprefix("with:").strip()):
            self.left_out = True
        elif block.runs:
            self.printed = self._python(block) if block.language == "python" else _shell(block)

    def _python(self, block: Block) -> str:
        code = compile("\n" * block.line + block.text, block.page, "exec")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(code, self.namespace)
        return said.getvalue()


def run_page(page: Path, folder: Path) -> bool:
    """Run a page's blocks in an empty folder; whether all were, none being left out for want of data."""
    walk = Walk()
    with contextlib.chdir(folder):
        for block in blocks_of(page):
            walk.take(block)
    return not walk.left_out


def _linked(name: str) -> bool:
    """Whether a folder of data is beside the page, where it is linked if there is one."""
    data = Path(os.environ.get("PASSBAND_DATA") or os.devnull, name)
    if data.is_dir() and not Path(name).exists():
        Path(name).symlink_to(data)
    return Path(name).is_dir()


def commands_in(text: str) -> Iterator[tuple[str, int]]:
    """Each command of a shell block, continued lines joined, with the status it must end with."""
    for line in text.replace("\\\n", " ").splitlines():
        command, _, comment = line.partition("#")
        status = re.search(r"exit status (\d+)", comment)
        if command.strip():
            yield command.strip(), int(status[1]) if status else 0


def _shell(block: Block) -> str:
    said = ""
    for command, wanted in commands_in(block.text):
        words = shlex.split(command)
        if words[0] == "passband":
            status, out, err = _passband(words[1:])
        else:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
            status, out, err = done.returncode, done.stdout, done.stderr
        assert status == wanted, f"{block.place}: {command}\nends with status {status}\n{out}{err}"
        said += out
    return said


def _passband(words: list[str]) -> tuple[int, str, str]:
    target = words[-1] if words[-2:-1] == [">"] else ""
    done = CliRunner().invoke(app, words[:-2] if target else words, catch_exceptions=False)
    if target:
        Path(target).write_text(done.stdout, "utf-8")
    return done.exit_code, "" if target else done.stdout, done.stderr


def links_of(page: Path) -> list[str]:
    """Where a page's links and pictures lead."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def anchors_of(page: Path) -> set[str]:
    """The headings of a page, as a link names them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def tutorials() -> list[Path]:
    """The pages that are a way through the product."""
    return sorted((DOCS / "tutorials").glob("*.md"))


def pictures_of(page: Path) -> list[str]:
    """The pictures of a tutorial that it makes itself."""
    return [link.removeprefix(f"{PICTURES}/") for link in links_of(page) if link.startswith(f"{PICTURES}/")]


def renew_pictures(page: Path) -> list[Path]:
    """Run a tutorial and keep the pictures that it shows."""
    renewed = []
    with tempfile.TemporaryDirectory() as folder:
        if not run_page(page, Path(folder)):
            print(f"{name_of(page)}: left out, PASSBAND_DATA does not hold what it shows", flush=True)
            return []
        for name in pictures_of(page):
            (page.parent / PICTURES).mkdir(exist_ok=True)
            renewed.append(Path(shutil.copy(Path(folder) / name, page.parent / PICTURES / name)))
    return renewed


def all_commands(group: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line, by its words, groups among them."""
    group = typer.main.get_command(app) if group is None else group
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from all_commands(command, (*words, name))


def commands_page() -> str:
    """The page of all commands and options."""
    parts = [
        "# Commands\n",
        "Made from the command line itself by `make commands`; a test holds it to it. "
        "`passband COMMAND --help` says the same in a terminal.\n",
        "Exit status of every command: 0 all done; 1 a fault in Passband; 2 something could not be read or "
        "the call was wrong; 3 `--fail-on` met; 130 interrupted. An error is one line on stderr.\n",
        "`--version` prints the version.\n",
    ]
    for words, command in all_commands():
        if words:
            parts.append(
                _group_part(words, command) if hasattr(command, "commands") else _part(words, command)
            )
    return "\n".join(parts)


def _group_part(words: Sequence[str], group: Any) -> str:
    return f"## passband {' '.join(words)}\n\n{_first(group.help)}\n"


def _part(words: Sequence[str], command: Any) -> str:
    level = "##" if len(words) == 1 else "###"
    lines = [f"{level} passband {' '.join(words)}\n", _paragraphs(command.help) + "\n"]
    lines += ["| argument or option | what |", "|---|---|"]
    for p in command.params:
        if p.name != "help":
            lines.append(f"| {_names(p)} | {_meaning(p)} |")
    return "\n".join(lines) + "\n"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.name.upper()
        return f"`{name}{'...' if parameter.nargs == -1 else ''}`"
    names = ", ".join(f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} {_values(parameter.type_descriptor.annotation)}"


def _values(kind: Any) -> str:
    """What an option takes, in a word, or its choices."""
    kind = next(iter(get_args(kind)), kind)
    if issubclass(kind, StrEnum):
        return " or ".join(kind)
    return {Path: "PATH", int: "INTEGER", float: "NUMBER", str: "TEXT"}[kind]


def _meaning(parameter: Any) -> str:
    words = (parameter.help or "").replace("|", "\\|")
    if parameter.required:
        return f"{words} Required."
    shown = getattr(parameter, "show_default", None)
    default = shown if isinstance(shown, str) else parameter.default
    if callable(default) or default is None or default == () or default is False:
        return words
    if parameter.secondary_opts:
        return f"{words} Default: the first."
    value = f"{default:g}" if isinstance(default, float) else getattr(default, "value", default)
    return f"{words} Default: {value}."


def _paragraphs(words: str) -> str:
    """A docstring's paragraphs, each on a line of its own."""
    return "\n\n".join(" ".join(p.split()) for p in words.split("\n\n"))


def _first(words: str) -> str:
    return words.split("\n\n")[0]


def main(words: Sequence[str]) -> int:
    """Write what is asked for."""
    if words == ["commands"]:
        COMMANDS.write_text(commands_page(), "utf-8")
        print(f"wrote {name_of(COMMANDS)}")
        return 0
    if words == ["pictures"]:
        for page in tutorials():
            for picture in renew_pictures(page):
                print(f"{name_of(page)}: {name_of(picture)}", flush=True)
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
