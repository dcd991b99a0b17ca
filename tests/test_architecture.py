"""Which part of lib may import which, as pyproject.toml says it; few folders; imports at the top of their file."""

import ast
import re

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from lib.paths import ROOT

MOST_FOLDERS = 8

# Imports of lib inside functions, by file, and why they are there. None gets around a circle: there is none.
INSIDE_FUNCTIONS = {
    "lib/__main__.py": "--help and bad options are answered before torch and transformers are imported",
    "lib/runs/execution.py": "a study in one process imports no dask, which takes a second",
    "lib/__init__.py": "`from lib import distil` works, and `import lib.paths` stays light",
}


def imports_inside_functions(source):
    """Names of lib's modules that a file's functions import."""
    found = set()
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom):
                    found.add("lib" if node.level else node.module)
                elif isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
    return {name for name in found if name.partition(".")[0] == "lib"}


def test_imports_in_lib_keep_to_the_layers(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True, no_logo=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_lib_has_few_folders():
    folders = [path.name for path in (ROOT / "lib").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(folders) <= MOST_FOLDERS, sorted(folders)


@pytest.mark.parametrize("path", sorted((ROOT / "lib").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_of_lib_are_imported_at_the_top_of_a_file(path):
    name = path.relative_to(ROOT).as_posix()
    found = imports_inside_functions(path.read_text(encoding="utf-8"))
    assert not found or name in INSIDE_FUNCTIONS, f"{name} imports {sorted(found)} inside a function"


def test_an_import_inside_a_function_is_found():
    source = """
from lib.paths import ROOT
def function():
    if ROOT:
        from lib.tasks import world
    import lib.errors, os
"""
    assert imports_inside_functions(source) == {"lib.tasks", "lib.errors"}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.*"))], ids=lambda page: page.name
)
def test_the_files_of_lib_that_a_page_names_are_there(page):
    named = set(re.findall(r"\blib/[\w/]+\.py\b", page.read_text(encoding="utf-8")))
    assert not [name for name in named if not (ROOT / name).is_file()]
