"""Break the code in one place, run its tests, and see whether one fails: ``python tests/mutants.py``.

A mutant that no test kills is either the same program said otherwise or a law that no test states.
Everything heavy is imported once, and each mutant is a fork: the tests of a module take seconds to
start otherwise. Words are not mutated: no string, docstring or annotation; what a message computes
within its braces is, and is counted apart.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import importlib.machinery
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MODULES = {
    "src/passband/judge/policy.py": ["tests/judge/test_verdict.py"],
    "src/passband/judge/tables.py": ["tests/judge/test_tables.py", "tests/judge/test_report.py"],
    "src/passband/detectors/infer.py": ["tests/detectors/test_infer.py"],
    "src/passband/detectors/train.py": ["tests/detectors/test_train.py"],
    "src/passband/detectors/crops.py": ["tests/detectors/test_crops.py"],
    "src/passband/detectors/train_labelled.py": ["tests/detectors/test_train_labelled.py"],
    "src/passband/detectors/suggest.py": ["tests/detectors/test_suggest.py"],
    "src/passband/detections/matching.py": ["tests/detections/test_matching.py"],
    "src/passband/detections/scores.py": ["tests/detections/test_scores.py"],
}
"""Every module that is mutated, and the tests that are to notice; its own examples run as well."""

HEAVY = "_hypothesis_pytestplugin _pytest.doctest beartype hypothesis.extra.numpy jaxtyping"
HEAVY += " matplotlib.pyplot scipy.ndimage scipy.optimize scipy.sparse.csgraph scipy.spatial scipy.stats"
HEAVY += " pydantic rich.progress safetensors.torch skimage.measure sklearn.ensemble torchvision zarr.testing"
"""What most of them import of others' libraries, or pytest does for its plugins."""

OTHERS: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Div],
    ast.Mod: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}
PAIRS = "min max, any all, argmin argmax, minimum maximum, floor ceil, sum mean"
NAMES = {a: b for pair in PAIRS.split(", ") for a, b in (pair.split(), pair.split()[::-1])}


class Mutant(NamedTuple):
    """One change of a module."""

    line: int
    change: str
    words: bool
    source: str

    def __str__(self) -> str:
        return f"{self.line}: {self.change}" + " (message)" * self.words


def mutants(source: str) -> Iterator[Mutant]:
    """Every change of a source, one at a time."""
    tree = ast.parse(source)
    for parent, field, at, words in list(_places(tree, False)):
        held = getattr(parent, field)
        node = held if at is None else held[at]
        for new in _changes(node, field):
            changed = new if at is None else [*held[:at], new, *held[at + 1 :]]
            setattr(parent, field, changed)
            change = f"{ast.unparse(node)} -> {ast.unparse(new)}"
            yield Mutant(node.lineno, change, words, ast.unparse(tree))
            setattr(parent, field, held)


def _places(parent: ast.AST, words: bool) -> Iterator[tuple[ast.AST, str, int | None, bool]]:
    """Where an expression or a statement stands in its parent, and whether in the braces of a message."""
    for field, held in ast.iter_fields(parent):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        for at, node in enumerate(held) if isinstance(held, list) else [(None, held)]:
            if isinstance(node, ast.keyword) and node.arg == "strict":
                continue
            if isinstance(node, ast.AST):
                if isinstance(node, (ast.expr, ast.stmt)):
                    yield parent, field, at, words
                yield from _places(node, words or isinstance(node, ast.JoinedStr))


def _changes(node: ast.AST, field: str) -> Iterator[ast.AST]:
    """What may stand there instead."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=right):
            for other in OTHERS[type(op)]:
                yield ast.Compare(left, [other()], right)
        case ast.Compare(left=left, ops=ops, comparators=right):
            for i, op in enumerate(ops):
                yield ast.Compare(left, [*ops[:i], OTHERS[type(op)][0](), *ops[i + 1 :]], right)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OTHERS:
            yield ast.BinOp(left, OTHERS[type(op)][0](), right)
        case ast.AugAssign(target=target, op=op, value=value):
            yield ast.AugAssign(target, OTHERS[type(op)][0](), value)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(OTHERS[type(op)][0](), values)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + max(1, value // 10))
        case ast.Constant(value=float(value)):
            yield ast.Constant(1.1 * value or 1.0)
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name])
        case ast.Attribute(value=value, attr=name) if name in NAMES:
            yield ast.Attribute(value, NAMES[name])
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Subscript()]):
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
    if field == "test" or field == "ifs":
        yield ast.UnaryOp(ast.Not(), node)


class _Fastest:
    """Runs first what takes least, as a file tells that the first run wrote: a killed mutant costs little."""

    def __init__(self, file: Path) -> None:
        self.file, self.known = file, file.exists()
        self.seconds: dict[str, float] = json.loads(file.read_text("utf-8")) if self.known else {}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: object) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        if not self.known:
            self.file.write_text(json.dumps(self.seconds), "utf-8")


def run_tests(module: str, source: str, durations: Path, limit: int = 600) -> bool:
    """Whether a module's tests pass, in a fork, with another source; what takes too long does not."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(limit)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        _replace(str(Path(module).resolve()), source.encode())
        status = 3
        with suppress(BaseException):
            import pytest

            already = "-Wignore:Module already imported"  # hypothesis and jaxtyping are pytest's plugins too
            arguments = ["-x", "-q", already, *MODULES[module], module]
            status = int(pytest.main(arguments, plugins=[_Fastest(durations)]))
        os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _replace(path: str, source: bytes) -> None:
    """Let the import system read other bytes for a path, and no cache of it."""
    loader = importlib.machinery.SourceFileLoader
    data, stats = loader.get_data, loader.path_stats

    def no_stats(self, asked):
        if asked == path:
            raise OSError
        return stats(self, asked)

    loader.get_data = lambda self, asked: source if asked == path else data(self, asked)
    loader.path_stats = no_stats


def judge(module: str, every: int, again: bool) -> None:
    """Run the mutants of a module, print how many were killed and list those that were not."""
    listed = Path("out/mutants", module.replace("/", ".") + ".txt")
    listed.parent.mkdir(parents=True, exist_ok=True)
    source = Path(module).read_text("utf-8")
    chosen = list(mutants(source))[::every]
    if again:
        before = listed.read_text("utf-8").splitlines()
        chosen = [m for m in chosen if str(m) in before]
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        durations, began = Path(folder, "durations.json"), time.monotonic()
        whole = ast.unparse(ast.parse(source))
        if not all(run_tests(module, whole, durations) for _ in range(2)):  # then also the fastest first
            sys.exit(f"{module}: its tests fail without a mutant")
        limit = 30 + int(4 * (time.monotonic() - began))
        for i, m in enumerate(chosen):
            print(f"{i} of {len(chosen)}, {len(alive)} alive", end="\r", file=sys.stderr, flush=True)
            if run_tests(module, m.source, durations, limit):
                alive.append(m)
    listed.write_text("".join(f"{m}\n" for m in alive), "utf-8")
    killed, words = len(chosen) - len(alive), sum(m.words for m in alive)
    told = f"{len(chosen)} mutants, {killed} killed, {len(alive)} survived, {words} of them within messages"
    print(f"{module}: {told}", *(f"  {m}" for m in alive), sep="\n", flush=True)


def main() -> None:
    """Print for each module how many mutants were killed, and every one that was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(MODULES), help="those of the list, or some of it")
    parser.add_argument("--every", type=int, default=1, help="take one mutant of so many")
    parser.add_argument("--again", action="store_true", help="only those that survived the last time")
    options = parser.parse_args()
    for name in HEAVY.split():
        importlib.import_module(name)
    from hypothesis import Phase, settings

    # The same examples for every mutant, none remembered, and no time spent on making one small.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", derandomize=True, database=None, phases=phases, deadline=None)
    settings.load_profile("mutants")
    gc.freeze()  # pytest collects at its end, and need not look at any of this
    for module in options.modules:
        judge(module, options.every, options.again)


if __name__ == "__main__":
    main()
