"""What pydantic finds wrong with settings, in sentences with the key, the value and what is allowed."""

import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from lib.errors import not_known, shown

# By the first word of an error's type, such as `int_parsing`.
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text (in quotes, where it looks like something else)",
    "tuple": "a list, as [A, B]",
    "dict": "a mapping, as {KEY: VALUE}",
    "model": "a mapping, as {KEY: VALUE}",
}
OF_A_KIND = ("_type", "_parsing", "_parsing_size", "_from_float", "_unicode")

Problem = dict[str, Any]
Path = tuple[str, ...]


def explained(error: ValidationError, settings: dict[str, Any], model: type[BaseModel]) -> str:
    """One line for each bad setting, and one for all that are missing."""
    problems = [(_path(problem, settings), problem) for problem in error.errors()]
    missing = [".".join(path) for path, problem in problems if problem["type"] == "missing"]
    wrong: dict[Path, list[Problem]] = {}
    for path, problem in problems:
        if problem["type"] != "missing":
            wrong.setdefault(path, []).append(problem)
    lines = [f"missing, and needed: {', '.join(missing)}."] if missing else []
    return "\n".join([*lines, *(line for path in _innermost(wrong) for line in _lines(path, wrong[path], model))])


def _path(problem: Problem, settings: object) -> Path:
    """Keys and places from the settings to a value, without pydantic's names for the choices of a union."""
    path: list[str] = []
    for part in problem["loc"]:
        held = dict(enumerate(settings)) if isinstance(settings, (list, tuple)) else settings
        inner = {str(key): value for key, value in held.items()} if isinstance(held, dict) else {}
        if str(part) in inner:
            path.append(str(part))
            settings = inner[str(part)]
    return (*path, str(problem["loc"][-1])) if problem["type"] == "missing" else tuple(path)


def _innermost(wrong: dict[Path, list[Problem]]) -> list[Path]:
    """The paths that lead to no other: of a union, the choice that the value comes nearest to."""
    return [path for path in wrong if not any(other[: len(path)] == path and other != path for other in wrong)]


def _lines(path: Path, problems: list[Problem], model: type[BaseModel]) -> Iterator[str]:
    own = [problem["msg"].removeprefix("Value error, ") for problem in problems if problem["type"] == "value_error"]
    yield from dict.fromkeys(own)
    first, place = problems[0], ".".join(path)
    if first["type"] == "extra_forbidden":
        yield not_known(".".join(path[:-1]), path[-1], _fields(model, path[:-1]))
    elif choices := _choices(problems):
        yield not_known(place, first["input"], choices)
    elif not own:
        allowed = " or ".join(dict.fromkeys(map(_allowed, problems)))
        yield f"{place}: {shown(first['input'])} is not allowed. Allowed: {allowed}."


def _choices(problems: list[Problem]) -> list[str]:
    """The texts that are allowed, where a text was given and nothing else is allowed."""
    if isinstance(problems[0]["input"], str) and all(problem["type"] == "literal_error" for problem in problems):
        return re.findall("'([^']*)'", problems[0]["ctx"]["expected"])
    return []


def _allowed(problem: Problem) -> str:
    kind = problem["type"]
    if kind.endswith(OF_A_KIND):
        return KINDS[kind.partition("_")[0]]
    if kind == "string_pattern_mismatch":
        return f"small letters, digits, - and _ (the pattern {problem['ctx']['pattern']})"
    return re.sub(r"^(Input|String|Tuple|Value) should (be |have )?| after validation.*", "", problem["msg"])


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """The keys of the model that a path leads to."""
    for part in path:
        if part in model.model_fields:
            model = next(_models(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - a type, or what is made of types
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
