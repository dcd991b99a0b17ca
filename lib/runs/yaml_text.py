"""Texts in YAML, read safely, with one message for whatever is wrong with one."""

from typing import Any

import yaml

from lib.errors import StudyError, first_line


class _Loader(yaml.SafeLoader):
    """The safe loader, which by itself would let the last of two equal keys win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                problem = f"the key {key.value!r} stands in it twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def parse(text: str, where: str) -> Any:  # noqa: ANN401 - whatever the text holds
    """The value that a text means.

    Raises:
        StudyError: the text is not YAML, has a key twice, or holds a date or a number that is none; `where` begins it.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise StudyError(f"{where}{place}: not YAML: {error.problem}.") from None
    except RecursionError:
        raise StudyError(f"{where}: not YAML that can be read: it is nested too deep.") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # of a tag whose value is none
        raise StudyError(f"{where}: not YAML that can be read: {first_line(error)}.") from None
