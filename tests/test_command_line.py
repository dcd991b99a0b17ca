"""The command line: options, and bad input that ends in one message before anything is computed."""

import re

import pytest
import torch

from lib import __main__

BAD = {
    "misspelt key": (["--set", "pool_sise=3"], "pool_sise.*Did you mean 'pool_size'"),
    "bad value": (["--set", "kl_weight=2"], "kl_weight: 2 is not allowed"),
    "unknown profile": (["--profile", "papr"], "profile: 'papr' is not known. Did you mean 'paper'"),
    "unknown method": (["--set", "methods=[cdd]"], "methods.*cdd.*'cd'"),
    "unknown notebook": (["--only", "77"], "only: '77' is not known. Allowed: 00, 01"),
    "unknown dataset": (["--set", "in_domain=mnlli"], "mnlli.*Allowed: pairs, swaps"),
    "unknown model": (["--set", "student=./nowhere"], "nowhere.*no folder"),
    "repeated label word": (["--set", "label_words=['Yes', 'Yes']"], "label_words: .*'Yes', 'Yes'.* differ"),
    "label words of the same tokens": (["--set", "label_words=[foo, bar]"], "label_words: .*own.*'foo' = .*'bar' = "),
    "words without quotes": (["--set", "label_words=[Yes, No]"], "label_words: .*booleans.*quotes"),
    "support too large": (["--set", "support_sizes=[100]"], "support_sizes: 100 .* largest possible is 6"),
    "pool too large": (["--set", "pool_size=50"], "pool_size: 50 queries asked for"),
    "no cuda": (["--set", "device=cuda"], "device: 'cuda' asked for"),
    "no such part": (["--profile", "tiny", "--only", "11"], "profile tiny has no settings for 11"),
    "unknown part": (["--set", "in_context.lama.itms=3"], "in_context.lama: 'itms' .*'items'"),
    "part of a value": (["--set", "in_context.steps.x=3"], "in_context: steps is one value, 4"),
    "too many demonstrations": (["--set", "in_context.lama.demonstrations=99"], "examples: 64 .* 100 are needed"),
}


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`run_all.sh` with the given words, in this process, with its figures in a scratch folder."""
    monkeypatch.setattr("lib.runs.profile.FIGURES", tmp_path)
    for variable in ("FEW_SHOT_BATCH", "PYTHONPATH"):
        monkeypatch.setenv(variable, "")

    def call(*words):
        monkeypatch.setattr("sys.argv", ["run_all.sh", *words])
        return __main__.main()

    return call


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_in_one_message_and_no_result(name, command, capsys, tmp_path):
    words, message = BAD[name]
    if name == "no cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert command(*([] if "--profile" in words else ["--smoke"]), *words) == 2
    shown = capsys.readouterr().err
    assert re.search(message, shown), shown
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("*/runs/*"))


def test_a_search_of_a_profile_that_reports_every_item_ends_in_one_message(command, capsys, tmp_path):
    assert command("search", "--profile", "smoke") == 2
    shown = capsys.readouterr().err
    assert re.search("error: eval_limit: profile smoke .*number", shown), shown
    assert not list(tmp_path.glob("*/runs/*"))


def test_pages_that_ask_models_are_not_drawn_from_what_is_stored(command, capsys):
    assert command("--smoke", "--stored", "--only", "00,08") == 2
    assert "00_tour, 08_memory" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--set", "pool_size"], ["--smoke", "--profile", "paper"], ["--profil3"]])
def test_options_that_cannot_be_read_exit_with_2(words):
    with pytest.raises(SystemExit) as ended:
        __main__.arguments(words)
    assert ended.value.code == 2


def test_values_are_read_as_yaml():
    options = __main__.arguments(["--set", "seeds=[3, 4]", "--set", "eval_limit=null", "--only", "01,05"])
    assert dict(options.changes) == {"seeds": [3, 4], "eval_limit": None}
    assert options.only == ["01", "05"]


def test_an_interrupt_says_that_nothing_is_lost(command, monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "figures", interrupted)
    assert command() == 130
    assert "goes on from there" in capsys.readouterr().err


def test_help_shows_the_commands_and_the_options_without_one(capsys):
    with pytest.raises(SystemExit) as ended:
        __main__.arguments(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for word in (
        "figures",
        "search",
        "fits",
        "plan",
        "export",
        "run_all.sh test",
        "--profile",
        "--smoke",
        "--only",
        "--set",
        "--stored",
    ):
        assert word in shown


PATHS = ["student", "teacher", "data", "in_context.lama.source", "in_context.lm_text", "in_context.crossfit.split"]


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(("written", "meant"), [("./x", "here/x"), ("../x/", "x"), ("./a/../x.gguf", "here/x.gguf")])
def test_a_path_that_begins_with_a_dot_is_one_from_where_the_command_is_given(
    monkeypatch, tmp_path, key, written, meant
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    options = __main__.arguments(["--set", f"{key}={written}"])
    assert options.changes == [(key, str(tmp_path / meant))]


def test_so_is_a_path_in_a_mapping(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = __main__.arguments(["--set", "datasets={mine: {source: ./a.csv, split: part, label: ./b}}"])
    held = {"source": str(tmp_path / "a.csv"), "split": "part", "label": "./b"}
    assert options.changes == [("datasets", {"mine": held})]


def test_other_values_stay_as_they_are_written(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for text in (
        "student=.models/x",
        "student=owner/name",
        "student=/x/../y",
        "student=~/x",
        "about=./x",
        "pattern=./{a}",
    ):
        assert __main__.arguments(["--set", text]).changes == [tuple(text.split("=", 1))]


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_fits_looks_for_a_model_from_where_the_command_is_given(monkeypatch, tmp_path, capsys, command, who):
    monkeypatch.chdir(tmp_path)
    words = ["fits", "--gpu", "8", "--profile", "smoke", "--support", "4", f"--{who}", "./none"]
    assert command(*words) == 2
    assert f"no folder {tmp_path / 'none'}" in capsys.readouterr().err
