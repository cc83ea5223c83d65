"""Commands on studies of generalisation: run, work a share, say how far, show, export."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from passband.cli.shell import Device, DeviceOption, SchedulerOption, progress_or_log
from passband.words import counted

Folder = Annotated[Path, typer.Argument(help="Folder made by `passband study run`.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Engine(StrEnum):
    """Who trains the networks."""

    inline = "inline"
    processes = "processes"
    dask = "dask"


def run(
    study: Annotated[Path, typer.Argument(help="TOML file: conditions to train and to test under.")],
    out: Annotated[Path, typer.Option(help="Folder of the study. Run again to resume.")],
    engine: Annotated[
        Engine | None,
        typer.Option(
            help="inline: this process; processes: on this machine; dask: Dask's workers.",
            show_default="processes, or dask with --scheduler",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes, of one thread each.", show_default="one for each core"),
    ] = None,
    scheduler: SchedulerOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again the networks that failed.")
    ] = False,
    begin_only: Annotated[
        bool,
        typer.Option("--begin-only", help="Make the folder and its scenes, for `passband study worker`."),
    ] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results", help="Take what `passband study pack` wrote, and train the rest; repeatable."
        ),
    ] = None,
    device: DeviceOption = Device.cpu,
    json: Json = False,
) -> None:
    """Train every network of a study that is not trained yet, and test each under every condition.

    For example `passband study run focus.toml --out focus`, with focus.toml of three lines: `[train]`,
    `defocus_nm = [-10, 10]` (nm, positive is underfocus), `seeds = 2` under `[study]`.

    A run that was stopped, even killed, goes on with the same command, and a finished one does nothing. A
    network that fails, or kills its worker, holds up no other; `passband study status` says why it failed.
    Results do not depend on engine and workers; on a GPU, which all workers share, the noise is another.

    Exit status: 0 all done, 2 some networks failed.
    """
    from passband.engines.settings import EngineSettings
    from passband.generalise.run import RunOptions, Work, run_study
    from passband.generalise.study_file import read_study
    from passband.generalise.telling import status_in_words, status_to_json

    wanted = read_study(study)
    chosen = engine or (Engine.dask if scheduler else Engine.processes)
    settings = EngineSettings(engine=chosen.value, workers=workers, scheduler=scheduler)
    options = RunOptions(
        engine=None if begin_only else settings,
        work=Work(),
        retry_failed=retry_failed,
        packs=tuple(results or ()),
        device=device.value,
    )
    with progress_or_log("study") as progress:
        status = run_study(wanted, out, options, progress=progress)
    sys.stdout.write(status_to_json(status) if json else status_in_words(status) + "\n")
    raise typer.Exit(2 if status.failed and not begin_only else 0)


def worker(
    folder: Folder,
    shard: Annotated[str, typer.Option(help="Which share of the networks: 3/100 is the third of a hundred.")],
    until_seconds: Annotated[
        float | None,
        typer.Option(help="Begin no network that would not end within so many seconds from now."),
    ] = None,
    device: DeviceOption = Device.cpu,
) -> None:
    """Train one share of a study's networks, as one job of an array at a cluster.

    For example `passband study worker focus --shard $SLURM_ARRAY_TASK_ID/100 --until-seconds 3400`, in an
    array of 1 to 100, after `passband study run focus.toml --out focus --begin-only`.

    It needs no other process, and ends with status 0 when its share is done, its time is up, or SIGTERM
    comes. Hand the same array in again to go on. `passband study status` collects what came.
    """
    from passband.generalise.shards import shard_from_text, work_shard

    with progress_or_log("training") as progress:
        done = work_shard(
            folder,
            shard_from_text(shard),
            until_seconds=until_seconds,
            device=device.value,
            progress=progress,
        )
    typer.echo(f"{done.ended}: {counted(done.done, 'network')} of this share done, {done.left} left")


def status(folder: Folder, json: Json = False) -> None:
    """Say how far a study is, and why networks failed; collect what workers have delivered.

    For example `passband study status focus --json`.
    """
    from passband.generalise.run import study_status
    from passband.generalise.telling import status_in_words, status_to_json

    found = study_status(folder)
    sys.stdout.write(status_to_json(found) if json else status_in_words(found) + "\n")


def show(folder: Folder, json: Json = False) -> None:
    """Say what a study is: conditions, networks, scenes.

    For example `passband study show focus`.
    """
    from passband.generalise.folder import open_study
    from passband.generalise.telling import study_in_words, study_to_json

    text = study_to_json(folder) if json else study_in_words(open_study(folder).study) + "\n"
    sys.stdout.write(text)


def export(
    folder: Folder,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Parquet file to write; needs pyarrow.")] = None,
) -> None:
    """Write a study as one table: a row for each trained network and test condition.

    For example `passband study export focus --csv focus.csv`.

    Columns: `run`, `train_...`, `test_...`, `seed`, `f1`, `loss`, and what else was measured. Units are in
    their names; where there is none it is Å or e/Å².
    """
    from passband.errors import ParameterError
    from passband.generalise.export import export_csv, export_parquet

    if csv is None and parquet is None:
        raise ParameterError("nothing to write: give --csv OUT, --parquet OUT, or both")
    for write, out in ((export_csv, csv), (export_parquet, parquet)):
        if out is not None:
            typer.echo(f"{counted(write(folder, out), 'row')} in {out}")


def pack(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="File to write, such as focus-1.xz.")],
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--earlier", help="Leave out the networks of this pack; repeatable."),
    ] = None,
) -> None:
    """Write what a study's networks reached into one small file, to carry it to another machine.

    For example `passband study pack focus --out focus-1.xz`, and there
    `passband study run focus.toml --out focus --results focus-1.xz`, which trains the rest.

    Weights and scenes are not in it: scenes follow from the study again. Numbers keep five digits.
    """
    from passband.generalise.carrying import pack as write_pack

    count = write_pack(folder, out, earlier=earlier or ())
    typer.echo(f"{counted(count, 'network')} in {out}")


def report(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="Folder for the page; DIR/report if not given.")] = None,
) -> None:
    """Show a study: the map of scores, curves and table on a page, and as pictures.

    For example `passband study report focus`. It may be made while the study runs.
    """
    from passband.generalise.folder import open_study
    from passband.generalise.page import write_study_report

    page = write_study_report(folder, open_study(folder).study, out or Path(folder) / "report")
    typer.echo(f"wrote {page}")


def map_study(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option("--report", help="Folder for the page.", show_default="DIR/map")
    ] = None,
    json: Json = False,
) -> None:
    """Draw how far a study's networks see, beside what is predicted of them; a cell leads to its images.

    For example `passband study map focus --report focus-map`. It may be made while the study runs.

    Predicted is the F1 of each network under each condition, from what its own answers say without labels, by
    networks that were trained and tested under other conditions; for that at least three conditions of each
    side are needed. map.csv holds every row with its prediction and a 90 % interval.
    """
    import json as json_text

    from passband.generalise.map_page import write_map_report

    with progress_or_log("map") as progress:
        done = write_map_report(folder, out or Path(folder) / "map", progress=progress)
    if json:
        told = {"page": str(done.page), "networks": done.networks, "rows": done.rows, "error": done.error}
        sys.stdout.write(json_text.dumps(told) + "\n")
        return
    said = "" if done.error is None else f"; predicted F1 is {done.error:.3f} off in the mean"
    typer.echo(f"wrote {done.page}: {counted(done.networks, 'network')}{said}")
