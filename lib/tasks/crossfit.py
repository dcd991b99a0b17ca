"""CrossFit's classification tasks in the form of MetaICL: rows of input, output and options, a file a task."""

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ValidationError

from lib.errors import StudyError
from lib.paths import locate
from lib.tasks import smoke
from lib.tasks.rows import Located, Record, numbered, rows_of, text_of, words_of
from lib.tasks.sources import REPEATED, listed
from lib.tasks.task import ANSWER, Benchmark, Query

ANOTHER_ANSWER = "have a text that stood before with another answer, which counts"


class SplitFile(BaseModel):
    """Names of the tasks to tune on (`train`) and to evaluate (`test`)."""

    train: list[str]
    test: list[str]


class CrossFit:
    """The tasks of a CrossFit split, in its order; none stands on both sides."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        split = _split(benchmark)
        self.names = list(dict.fromkeys(split.train)), list(dict.fromkeys(split.test))
        self.left_out: dict[str, str] = {}
        self.doubts: dict[str, str] = {}

    def queries(self, name: str) -> tuple[list[Query], list[Query]]:
        """Rows that are not of the split `test`, and those that are; what is too long, or said before, is left out."""
        examples: dict[str, Query] = {}
        items: dict[str, Query] = {}
        notes: dict[str, list[str]] = {}
        for where, row in self._rows(name):
            if self.benchmark.longest is None or len(str(row.get("input"))) <= self.benchmark.longest:
                query = _query(row, where)
                first = (items if row.get("split") == "test" else examples).setdefault(query.text, query)
                if first is not query:
                    notes.setdefault(REPEATED if first.answered == query.answered else ANOTHER_ANSWER, []).append(where)
        if notes:
            self.doubts[name] = "; ".join(f"{len(there)} rows {note}: {listed(there)}" for note, there in notes.items())
        return list(examples.values()), list(items.values())

    def tuning_queries(self, name: str, _targets: Sequence[str]) -> list[Query]:
        """All rows of a task."""
        return list({query.text: query for part in self.queries(name) for query in part}.values())

    def _rows(self, name: str) -> Iterable[Located]:
        if self.benchmark.source == "embedded":
            return numbered(smoke.TASKS[name], f"{name}, row")
        return rows_of(self.benchmark.source, f"{name}.jsonl")


def _split(benchmark: Benchmark) -> SplitFile:
    if benchmark.source == "embedded":
        return SplitFile(**smoke.TASK_SPLIT)
    problem = f"crossfit.split: {benchmark.split!r} is not a JSON file of train and test task names"
    try:
        split = SplitFile.model_validate_json(locate(benchmark.split).read_bytes())
    except OSError as error:
        raise StudyError(f"{problem} ({error}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise StudyError(f"{problem} ({': '.join(map(str, (*first['loc'], first['msg'])))}).") from None
    if both := {*split.train} & {*split.test}:
        raise StudyError(f"{benchmark.split}: {', '.join(sorted(both))} would be both tuned on and evaluated.")
    return split


def _query(row: Record, where: str) -> Query:
    """A row with its options, of which one is the answer."""
    options, gold = row.get("options"), row.get("output")
    if not isinstance(options, (list, tuple)) or not all(isinstance(option, str) for option in options):
        raise StudyError(f"{where}: options must be a list of texts, not {options!r}.")
    stripped = tuple(text_of({"options": option}, "options", where).strip() for option in options)
    if len(stripped) < 2 or "" in stripped or len({*stripped}) < len(stripped):
        raise StudyError(f"{where}: options need two texts or more, all different and not blank, not {options!r}.")
    if not isinstance(gold, str) or gold.strip() not in stripped:
        raise StudyError(f"{where}: the answer {gold!r} is not among the options {options!r}.")
    return Query(words_of(row, "input", where) + ANSWER, stripped, stripped.index(gold.strip()))
