"""The commands behind run_all.sh; `figures` fills a profile's runs, executes and renders the notebooks."""

import argparse
import os
import sys
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.errors import StudyError
from lib.paths import ROOT

if TYPE_CHECKING:
    from lib.runs.execution import Sweep
    from lib.runs.profile import Profile

NOTEBOOKS_AT_A_TIME = 2  # most of a notebook's time is one core's, importing libraries
DEFAULT_PROFILE = "tiny"
NO_RESULT = "none of its methods has a result"
NOT_DRAWN = "not drawn yet"
ASK_MODELS = ("00_tour", "08_memory", "13_method")  # whatever is stored
SMALL_MODELS = ("13_method",)  # a step without batches is slow on larger ones


def arguments(words: list[str]) -> argparse.Namespace:
    """Parsed options; `--help` prints them all and ends the program."""
    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter}  # the epilog is laid out already
    parser = argparse.ArgumentParser(prog="run_all.sh", description="A study of few-shot distillation.", **raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    usual = commands.add_parser("figures", help="regenerate figures and report (what is done without a command)")
    _add_figures(usual)
    _add_fits(commands.add_parser("fits", help="say whether a method fits on a card; needs no GPU and no weights"))
    _add_export(commands.add_parser("export", help="save a trained student with a model card"))
    parser.epilog = "run_all.sh test makes the same environment and runs the tests; further words go to pytest.\n\n"
    parser.epilog += f"Without a command:\n\n{usual.format_help()}"
    named = words and (words[0] in commands.choices or words[0] in ("-h", "--help"))
    return parser.parse_args(words if named else ["figures", *words])


def _add_figures(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--profile", metavar="NAME", help="a file in notebooks/profiles, or the path of one")
    choice.add_argument(
        "--smoke", action="store_const", const="smoke", dest="profile", help="short for --profile smoke"
    )
    parser.add_argument("--only", metavar="01,05", type=lambda text: text.split(","), help="only these notebooks")
    _add_changes(parser)
    parser.add_argument(
        "--stored",
        action="append_const",
        const=("stored_only", True),
        dest="changes",
        help="compute nothing: draw the results that are there; short for --set stored_only=true",
    )
    parser.add_argument(
        "--anew",
        action="append_const",
        const=("anew", True),
        dest="changes",
        help="compute results again whose data or models are others now; short for --set anew=true",
    )
    parser.set_defaults(run=figures)


def _add_fits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", type=float, required=True, metavar="GIB", help="the card's memory")
    parser.add_argument("--method", default="cd", help="one of the study's methods (default: cd)")
    parser.add_argument("--student", help="a published OPT, a hub name, a folder or a .gguf file")
    parser.add_argument("--teacher", help="likewise; both are the profile's where they are not given")
    parser.add_argument("--support", type=int, default=12, metavar="N", help="support examples (default: 12)")
    parser.add_argument("--profile", default="paper", help="where all other settings come from (default: paper)")
    _add_changes(parser)
    parser.set_defaults(run=fits)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help=f"whose result it is (default: {DEFAULT_PROFILE})")
    parser.add_argument("--method", default="cd", help="one that trains a student (default: cd)")
    parser.add_argument("--support", type=int, default=8, metavar="N", help="support examples (default: 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="absolute, or from the study's folder; default: students/ in the profile's",
    )
    _add_changes(parser)
    parser.set_defaults(run=export)


def _add_changes(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option that replaces settings of the profile."""
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="changes",
        type=_change,
        action="append",
        default=[],
        help="replace a setting of the profile; learning_rate.cd=1e-4 replaces that of one method; repeatable",
    )


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    import yaml  # here and not above, so that --help needs no environment

    return key, yaml.safe_load(value)


def figures(options: argparse.Namespace) -> int:
    """Regenerate figures and report; the exit status is 1 where something failed and the rest was done.

    Raises:
        StudyError: a setting cannot work; nothing was computed.
    """
    from lib.report import book
    from lib.runs.profile import read_profile
    from lib.runs.store import Store

    if options.profile is None:
        print(f"No --profile given: this is {DEFAULT_PROFILE}.", flush=True)
    profile = read_profile(options.profile or DEFAULT_PROFILE, dict(options.changes))
    wanted = _wanted(book.figure_notebooks(options.only), profile)
    plans = _variant_plans(profile, [path.stem for path in wanted])
    if not profile.stored_only:
        Store(profile.folder).forget_failures()
    sweep = _filled(profile, sorted({name for names in wanted.values() for name in names} & {*profile.methods}))
    failed_variants, nothing_to_compare = _fill_variants(profile, plans)
    benchmarks, without_data = _fill_benchmarks(profile, [path.stem for path in wanted])
    for method, reason in sweep.refused.items():
        print(f"Refused: {method}: {reason}", flush=True)
    there = {method for one in (sweep, *benchmarks) for method in one.results.get("method", [])}
    empty = {path.stem: NO_RESULT for path, names in wanted.items() if names and not there & set(names)}
    left_out = empty | nothing_to_compare | without_data
    failed = {name: why for one in (sweep, *benchmarks) for name, why in one.failed.items()} | failed_variants
    failed |= _draw(profile, {path: names for path, names in wanted.items() if path.stem not in left_out})
    index = book.write_index(profile, _without_page(profile, wanted) | failed | left_out)
    print(f"Figures: {_shown(profile.folder)}\nReport:  {_shown(index)}")
    return _status(failed, left_out, profile.stored_only)


def _status(failed: dict[str, str], left_out: dict[str, str], stored_only: bool) -> int:
    """Say what failed and what was not drawn; 1 where that is not what was asked for, else 0."""
    for name, reason in left_out.items() if stored_only else ():
        print(f"Not drawn: {name}: {reason}")
    problems = failed if stored_only else failed | left_out
    for name, reason in problems.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    return 1 if problems else 0


def _wanted(notebooks: list[Path], profile: "Profile") -> dict[Path, list[str]]:
    """The notebooks that the profile has settings for, each with those of its methods that the profile has.

    Raises:
        StudyError: there are none.
    """
    from lib.methods.table import ON_BENCHMARKS
    from lib.report import book
    from lib.runs.execution import BENCHMARK_NOTEBOOKS

    wanted = {}
    for path in _drawable(notebooks, profile):
        allowed = ON_BENCHMARKS if path.stem in BENCHMARK_NOTEBOOKS else profile.methods
        wanted[path] = [name for name in book.methods_of(path) if name in allowed]
    if not wanted:
        names = ", ".join(path.stem for path in notebooks)
        or_models = ", or they ask models, which stored_only does not" if profile.stored_only else ""
        raise StudyError(f"only: profile {profile.name} has no settings for {names} (in_context){or_models}.")
    return wanted


def _drawable(notebooks: list[Path], profile: "Profile") -> list[Path]:
    """Those of the notebooks that the profile has settings for and that do not ask models where it may not."""
    from lib.runs.execution import BENCHMARK_NOTEBOOKS
    from lib.tasks.catalogue import EMBEDDED

    asked = [path for path in notebooks if not (profile.stored_only and path.stem in ASK_MODELS)]
    if profile.data not in EMBEDDED:
        asked = [path for path in asked if path.stem not in SMALL_MODELS]
    without = [name for name, benchmark in BENCHMARK_NOTEBOOKS.items() if not profile.in_context_runs(benchmark)]
    return [path for path in asked if path.stem not in without]


def _without_page(profile: "Profile", wanted: Container[Path]) -> dict[str, str]:
    """Notebooks of the profile that this run was not asked for and that no run before it has drawn."""
    from lib.report import book

    others = [path.stem for path in _drawable(book.figure_notebooks(None), profile) if path not in wanted]
    pages = profile.folder / "report"
    return {name: NOT_DRAWN for name in others if not (pages / f"{name}.html").is_file()}


def _filled(profile: "Profile", methods: list[str]) -> "Sweep":
    """Results and predicted peaks of the methods, so that the notebooks, two at a time, only read them."""
    import pandas as pd

    from lib.runs.execution import Sweep, fill
    from lib.runs.predictions import of_profile

    if not methods:
        return Sweep(profile, pd.DataFrame())
    sweep = fill(profile, methods)
    print(f"{len(sweep.results)} results in {_shown(profile.folder / 'runs')}.", flush=True)
    of_profile(profile, methods)
    return sweep


def _variant_plans(profile: "Profile", notebooks: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The variants that notebooks try, by notebook; unknown names are an error before anything is computed."""
    from lib.runs.ablations import VARIANTS
    from lib.runs.variants import METHOD

    asked = [name for name in VARIANTS if name in notebooks and METHOD in profile.methods]
    return {name: VARIANTS[name](profile) for name in asked}


def _fill_variants(
    profile: "Profile", plans: dict[str, dict[str, dict[str, Any]]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Compute the runs of the notebooks that try variants.

    Returns:
        The runs that failed and, where only what is stored is drawn, the notebooks without results, with reasons.
    """
    from lib.runs.variants import METHOD, fill_variants

    failed: dict[str, str] = {}
    without: dict[str, str] = {}
    for notebook, changes in plans.items():
        print(f"{notebook}:", flush=True)
        try:
            failed |= fill_variants(profile, changes, [METHOD]).failed
        except StudyError as error:
            if not profile.stored_only:
                raise
            without[notebook] = str(error)
    return failed, without


def _fill_benchmarks(profile: "Profile", notebooks: list[str]) -> tuple[list["Sweep"], dict[str, str]]:
    """The results of the notebooks of in-context learning distillation, and those not to be drawn, with reasons."""
    from lib.runs.execution import BENCHMARK_NOTEBOOKS, fill

    sweeps, failed = [], {}
    for notebook, benchmark in BENCHMARK_NOTEBOOKS.items():
        if notebook in notebooks:
            print(f"{notebook}:", flush=True)
            try:
                sweep = fill(profile, benchmark=benchmark)
            except StudyError as error:  # its data are apart from the rest's, which can still be drawn
                failed[notebook] = str(error)
                continue
            if len(sweep.results):
                sweeps.append(sweep)
            else:
                failed[notebook] = NO_RESULT
    return sweeps, failed


def _draw(profile: "Profile", wanted: dict[Path, list[str]]) -> dict[str, str]:
    """Execute and render notebooks, each with its methods; returns those that failed, with reasons."""
    failed: dict[str, str] = {}
    with ThreadPoolExecutor(NOTEBOOKS_AT_A_TIME) as pool:
        running = {pool.submit(_draw_one, profile, path, names): path.stem for path, names in wanted.items()}
        for future in as_completed(running):
            if reason := future.result():
                failed[running[future]] = reason
            else:
                print(f"Drew {running[future]}.", flush=True)
    return failed


def _draw_one(profile: "Profile", notebook: Path, methods: list[str]) -> str | None:
    """Why a notebook could not be drawn, or None where it was."""
    from lib.report import book

    try:
        book.render(book.execute(notebook, profile, methods, profile.folder / "report"))
    except StudyError as error:
        return str(error)
    return None


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fits(options: argparse.Namespace) -> int:
    """Say whether a method fits on a card; the exit status is 0 where it fits, 1 where it does not."""
    from lib.models.loading import quiet
    from lib.runs.fits import fit, report
    from lib.runs.profile import read_profile

    quiet()
    models = {name: value for name in ("student", "teacher") if (value := getattr(options, name))}
    profile = read_profile(options.profile, {"device": "cuda", **models, **dict(options.changes)})
    print(report(profile, options.method, options.support, options.gpu))
    return 0 if fit(profile, options.method, options.support, options.gpu)[1].fits else 1


def export(options: argparse.Namespace) -> int:
    """Save a trained student, and print where."""
    from lib.models.loading import quiet
    from lib.runs import export as exporting
    from lib.runs.profile import read_profile

    quiet()
    profile = read_profile(options.profile, dict(options.changes))
    print(exporting.export(profile, options.method, options.support, options.seed, options.to))
    return 0


def main() -> int:
    """Entry point: errors that a user can act on end in their message alone."""
    options = arguments(sys.argv[1:])
    os.environ["FEW_SHOT_BATCH"] = "1"
    os.environ["PYTHONPATH"] = str(ROOT)  # kernels import this checkout's lib
    try:
        return options.run(options)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. What was computed is kept; the same command goes on from there.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
