"""How verdicts on many micrographs are printed: as JSON or as a table, and what went with them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from passband.words import counted

if TYPE_CHECKING:
    from passband.judge.many import Outcome
    from passband.judge.policy import Judgement
    from passband.judge.verdict import Verdict


class JsonOut:
    """Verdicts as JSON on stdout, all at the end; until then in a file, for there may be very many."""

    def __enter__(self) -> JsonOut:
        from tempfile import SpooledTemporaryFile

        # In memory until there are very many: a full disk is no reason to print nothing.
        self._entries = SpooledTemporaryFile(2**26, "w+", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def take(self, verdict: Verdict) -> None:
        """Keep one verdict."""
        from passband.judge.verdict import verdict_json

        self._entries.write(verdict_json(verdict) + "\n")

    def tell(self, outcome: Outcome) -> None:
        """Print everything."""
        from passband.judge.verdict import json_pieces

        self._entries.seek(0)
        for piece in json_pieces((line[:-1] for line in self._entries), outcome.errors, outcome.notes):
            sys.stdout.write(piece)


class TableOut:
    """Verdicts as a table on stdout."""

    def __enter__(self) -> TableOut:
        self._names: list[str] = []
        self._rows: list[tuple[Judgement, str, str, str]] = []
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def take(self, v: Verdict) -> None:
        """Keep the line of one verdict."""
        e = v.estimates.get("f1")
        f1 = "-" if e is None else f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})"
        self._names.append(v.path)
        self._rows.append((v.verdict, f1, str(len(v.detections)), v.reasons[0]))

    def tell(self, outcome: Outcome) -> None:
        """Print everything."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        from passband.drawing.html import short_paths

        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 160
        if self._rows:
            folder, names = short_paths(self._names)
            table = Table(box=None, pad_edge=False)
            table.add_column("micrograph", no_wrap=True)
            for heading in ("verdict", "estimated F1", "objects", "first reason"):
                table.add_column(heading, no_wrap=heading == "estimated F1")
            styles: dict[Judgement, str] = {"trust": "green", "review": "yellow", "reject": "red"}
            for name, (verdict, *rest) in zip(names, self._rows, strict=True):  # Text: nothing is markup
                table.add_row(Text(name), Text(verdict, styles[verdict]), *map(Text, rest))
            console.print(table)
            where = f" in {folder}" if folder else ""
            counts = ", ".join(f"{outcome.counts.get(verdict, 0)} {verdict}" for verdict in styles)
            typer.echo(f"\n{counts}{where}")
        if outcome.page is not None:
            again = f", {outcome.reused} of them from an earlier run" if outcome.reused else ""
            typer.echo(f"report on {counted(len(self._rows), 'micrograph')}{again}: {outcome.page}")


def print_errors(outcome: Outcome) -> None:
    """What could not be assessed, on stderr, after everything else."""
    if outcome.errors:
        typer.echo(f"passband: not assessed ({len(outcome.errors)}):", err=True)
    for path, words in outcome.errors:
        typer.echo(f"  {path}: {words}", err=True)
