"""The commands behind run_all.sh and their options; what they do lies in the modules that they import."""

import argparse
import os
import signal
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lib.errors import StudyError
from lib.paths import NOTEBOOKS, ROOT

DEFAULT_PROFILE = "tiny"
PLACES = ("student", "teacher", "data", "source", "tuning_source", "split", "lm_text")  # settings that may be paths
COMMANDS = {
    "figures": "regenerate figures and report (what is done without a command)",
    "search": "choose learning rates, epochs and ICL's pattern on what is not reported; prints lines for the profile",
    "fits": "say whether a method fits on a card; needs no GPU and no weights",
    "plan": "say what a profile takes before it starts: runs, peaks, hours, cards and cost; needs no weights",
    "export": "save a trained student with a model card",
    "init": "write a profile for a file of labelled texts of your own",
    "check": "say what a profile would do and cost, in seconds and without weights",
    "ask": "answer a text by a profile's distilled student, which is trained first where it is not there",
    "book": "make one site of all pages that are there, in figures/book/site; the first two commands do so as well",
}


def arguments(words: list[str]) -> argparse.Namespace:
    """Parsed options; `--help` prints them all and ends the program."""
    raw = {"formatter_class": argparse.RawDescriptionHelpFormatter}  # the epilog is laid out already
    parser = argparse.ArgumentParser(prog="run_all.sh", description="A study of few-shot distillation.", **raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    takes = {name: [] if name == "book" else [_changes()] for name in COMMANDS}
    added = {name: commands.add_parser(name, help=about, parents=takes[name]) for name, about in COMMANDS.items()}
    _add_figures(added["figures"])
    _add_search(added["search"])
    _add_fits(added["fits"])
    _add_plan(added["plan"])
    _add_export(added["export"])
    _add_own_task(added["init"], added["check"], added["ask"])
    added["book"].set_defaults(run=book)
    parser.epilog = "run_all.sh test makes the same environment and runs the tests; further words go to pytest.\n\n"
    parser.epilog += f"Without a command:\n\n{added['figures'].format_help()}"
    named = words and (words[0] in commands.choices or words[0] in ("-h", "--help"))
    return parser.parse_args(words if named else ["figures", *words])


def _changes() -> argparse.ArgumentParser:
    """The option that all commands have."""
    parser = argparse.ArgumentParser(add_help=False)
    about = (
        "replace a setting of the profile; learning_rate.cd=1e-4 replaces that of one method; a path that begins with "
        "./ is one from here; repeatable"
    )
    option = {"metavar": "KEY=VALUE", "dest": "changes", "help": about}
    parser.add_argument("--set", type=_change, action="append", default=[], **option)
    return parser


def _add_figures(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--profile", metavar="NAME", help="a file in notebooks/profiles, or the path of one")
    smoke = {"action": "store_const", "const": "smoke", "dest": "profile"}
    choice.add_argument("--smoke", **smoke, help="short for --profile smoke")
    parser.add_argument(
        "--only", metavar="01,05", type=lambda text: text.split(","), help="only these notebooks, unchanged ones too"
    )
    for option, setting, about in (
        ("--stored", "stored_only", "compute nothing: draw the results that are there"),
        ("--anew", "anew", "compute results again whose data or models are others now, and draw every page again"),
    ):
        change = {"action": "append_const", "const": (setting, True), "dest": "changes"}
        parser.add_argument(option, **change, help=f"{about}; short for --set {setting}=true")
    parser.set_defaults(run=figures)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help=f"whose settings (default: {DEFAULT_PROFILE})")
    parser.set_defaults(run=search)


def _add_fits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", type=float, required=True, metavar="GIB", help="the card's memory")
    parser.add_argument("--method", default="cd", help="one of the study's methods (default: cd)")
    parser.add_argument("--student", help="a published OPT, a hub name, a folder or a .gguf file")
    parser.add_argument("--teacher", help="likewise; both are the profile's where they are not given")
    parser.add_argument("--support", type=int, default=12, metavar="N", help="support examples (default: 12)")
    parser.add_argument("--profile", default="paper", help="where all other settings come from (default: paper)")
    parser.set_defaults(run=fits)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help=f"whose runs (default: {DEFAULT_PROFILE})")
    student = "a published OPT, a hub name, a folder or a .gguf file, in place of the profile's; repeatable"
    parser.add_argument("--student", action="append", default=[], metavar="MODEL", help=student)
    parser.add_argument("--gpu", type=float, metavar="GIB", help="a card's memory (default: several usual sizes)")
    parser.add_argument("--price", type=float, metavar="EUROS", help="of an hour")
    parser.set_defaults(run=plan)


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default=DEFAULT_PROFILE, help=f"whose result it is (default: {DEFAULT_PROFILE})")
    parser.add_argument("--method", default="cd", help="one that trains a student (default: cd)")
    parser.add_argument("--support", type=int, default=8, metavar="N", help="support examples (default: 8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: students/ in the profile's folder")
    parser.add_argument("--dtype", default="float16", help="of the saved weights (default: float16)")
    parser.set_defaults(run=export)


def _add_own_task(init: argparse.ArgumentParser, check: argparse.ArgumentParser, ask: argparse.ArgumentParser) -> None:
    init.add_argument("data", metavar="FILE", help="csv, tsv, json lines or parquet, a labelled text a row")
    init.add_argument("--name", default="mine", help="of the profile in notebooks/profiles (default: mine)")
    init.add_argument("--label", metavar="COLUMN", help="of the labels (default: guessed)")
    init.add_argument("--student", default="HuggingFaceTB/SmolLM2-135M", help="a hub name, a folder or a .gguf file")
    init.add_argument("--teacher", default="Qwen/Qwen2.5-1.5B", help="likewise")
    init.set_defaults(run=init_profile)
    for parser, run in ((check, check_profile), (ask, ask_student)):
        parser.add_argument("--profile", required=True, metavar="NAME", help="in notebooks/profiles, or a file's path")
        parser.set_defaults(run=run)
    ask.add_argument(
        "query", nargs="+", metavar="TEXT", help="one text; FIELD=TEXT for each field where there are more"
    )
    ask.add_argument("--method", help="default: the profile's first that distils")
    ask.add_argument("--support", type=int, metavar="N", help="support examples (default: the profile's most)")


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    from lib.runs.yaml_text import parse  # here and not above, so that --help needs no environment

    return key, _from_here(key, parse(value, f"--set {key}"))


def _from_here(key: str, value: Any) -> Any:  # noqa: ANN401 - whatever the text holds
    """A setting whose path begins with ./ or ../ is meant from where the command is given, as that of a profile is."""
    if isinstance(value, dict):
        return {inner: _from_here(str(inner), one) for inner, one in value.items()}
    relative = isinstance(value, str) and value.startswith(("./", "../"))
    return os.path.abspath(value) if relative and key.rpartition(".")[2] in PLACES else value


def figures(options: argparse.Namespace) -> int:
    """Regenerate figures and report; the exit status is 1 where something failed and the rest was done.

    Raises:
        StudyError: a setting cannot work; nothing was computed.
    """
    from lib.report.pages import draw_report
    from lib.runs.profile import read_profile

    here = Path.cwd()  # as long as notebooks run it may be another
    if options.profile is None:
        print(f"No --profile given: this is {DEFAULT_PROFILE}.", flush=True)
    profile = read_profile(DEFAULT_PROFILE if options.profile is None else options.profile, dict(options.changes))
    index, failed, left_out = draw_report(profile, options.only)
    print(f"Figures: {os.path.relpath(profile.folder, here)}\nReport:  {os.path.relpath(index, here)}", flush=True)
    _make_book(here)
    for name, reason in left_out.items() if profile.stored_only else ():
        print(f"Not drawn: {name}: {reason}")
    problems = failed if profile.stored_only else failed | left_out
    for name, reason in problems.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    return 1 if problems else 0


def search(options: argparse.Namespace) -> int:
    """Run what is missing of a profile's search, draw its page, and print the chosen settings."""
    from lib.models.loading import quiet
    from lib.report.book import draw
    from lib.runs.profile import read_profile
    from lib.runs.search import profile_lines, search_settings
    from lib.runs.store import Store

    here = Path.cwd()  # as long as the notebook runs it may be another
    quiet()
    profile = read_profile(options.profile, dict(options.changes))
    if not profile.stored_only:
        Store(profile.folder).forget_failures()
    found = search_settings(profile)
    page = draw(NOTEBOOKS / "settings_search.ipynb", profile, list(profile.methods))
    print(f"Page: {os.path.relpath(page, here)}\nChosen:\n\n{profile_lines(found)}", flush=True)
    _make_book(here)
    return 0


def fits(options: argparse.Namespace) -> int:
    """Say whether a method fits on a card; the exit status is 0 where it fits, 1 where it does not."""
    from lib.memory.fits import fit, report
    from lib.models.loading import quiet
    from lib.runs.profile import read_profile

    quiet()
    named = {name: getattr(options, name) for name in ("student", "teacher")}
    models = {name: _from_here(name, value) for name, value in named.items() if value is not None}
    profile = read_profile(options.profile, {"device": "cuda", **models, **dict(options.changes)})
    print(report(profile, options.method, options.support, options.gpu))
    return 0 if fit(profile, options.method, options.support, options.gpu)[1].fits else 1


def plan(options: argparse.Namespace) -> int:
    """Print what a profile would take."""
    from lib.report.plan import report
    from lib.runs.profile import read_profile

    students = [_from_here("student", name) for name in options.student]
    profile = read_profile(options.profile, dict(options.changes))
    print(report(profile, students, options.gpu, options.price))
    return 0


def export(options: argparse.Namespace) -> int:
    """Save a trained student, and print where."""
    from lib.models.loading import quiet
    from lib.runs import export as exporting
    from lib.runs.profile import read_profile

    quiet()
    profile = read_profile(options.profile, dict(options.changes))
    kept = exporting.export(profile, options.method, options.support, options.seed, options.to, options.dtype)
    print(f"{kept} ({exporting.megabytes(kept):.3g} MB)")
    return 0


def init_profile(options: argparse.Namespace) -> int:
    """Write a profile for a file of one's own, and say what was guessed and what comes next."""
    from lib.runs.own_data import write_profile

    file, label, how = write_profile(options.data, options.name, options.label, options.student, options.teacher)
    print(f"Wrote {file}.\nThe label column is {label!r}, {how}.")
    print(f"Edit it, then: ./run_all.sh check --profile {options.name}")
    return 0


def check_profile(options: argparse.Namespace) -> int:
    """Say what a profile would do and cost."""
    from lib.models.loading import quiet
    from lib.report.own_task import checked
    from lib.runs.profile import read_profile

    quiet()
    for line in checked(read_profile(options.profile, dict(options.changes))):
        print(line, flush=True)
    return 0


def ask_student(options: argparse.Namespace) -> int:
    """Print the probability of each class, and nothing else: how far its training is goes to the standard error."""
    from lib.own_task import asked, student_of
    from lib.runs.profile import read_profile

    profile = read_profile(options.profile, dict(options.changes))
    query = asked(profile, options.query)
    with redirect_stdout(sys.stderr):
        student = student_of(profile, options.method, options.support)
    for name, share in student(query).items():
        print(f"{name}\t{share:.3f}")
    return 0


def book(_: argparse.Namespace) -> int:
    """Make the book of what is there; the exit status is 1 where it cannot be made."""
    return 0 if _make_book(Path.cwd()) else 1


def _make_book(here: Path) -> bool:
    """Whether the book could be made; where it could not, a message says why, and nothing else is lost."""
    from lib.report.site import build

    try:
        print(f"Book:    {os.path.relpath(build(ROOT), here)}", flush=True)
    except StudyError as error:
        print(f"The book was not made: {error}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Entry point: errors that a user can act on end in their message alone."""
    os.environ["FEW_SHOT_BATCH"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # in kernels, where a bar would be an empty widget on the page
    os.environ["PYTHONPATH"] = str(ROOT)  # kernels import this checkout's lib
    try:
        options = arguments(sys.argv[1:])
        return options.run(options)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted. What was computed is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        _drop_output()
        return 141
    except OSError as error:
        _drop_output()
        print(f"error: {error}", file=sys.stderr)
        return 2


def _drop_output() -> None:
    """What is still to be written to an output that takes nothing more would end in an error of Python's own."""
    if sys.stdout is not None:  # it was closed before the program began
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(*_: object) -> None:
    """End in order at the first signal, and at once at the second: what was started ends by itself then."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(130))
    raise KeyboardInterrupt


def run() -> None:
    """The program: `main` with signals handled, and its exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    sys.exit(main())


if __name__ == "__main__":
    run()
