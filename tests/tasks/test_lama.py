"""LAMA's relations as tasks: templates up to the object, all objects as options, facts kept apart."""

import json

import pytest

from lib.errors import StudyError
from lib.tasks import lama
from lib.tasks.few_shot import task_set
from lib.tasks.task import Benchmark, MissingTaskError, Query
from tests.support.github import folder_of, github

TEMPLATES = {
    "capital": "[X] is the capital of [Y] .",
    "born": "[X] was born in [Y] .",
    "speaks": "[X] speaks [Y]",
    "part": "The [X] is part of the [Y].",
}
OBJECTS = ["Rome", "Kenya", "Peru", "Oslo"]


def facts_of(name, count=12):
    return [(f"{name} {i}", OBJECTS[i % len(OBJECTS)]) for i in range(count)]


def write(folder, name, rows):
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_facts(folder, name, facts):
    write(folder, name, [{"sub_label": subject, "obj_label": answer, "uuid": "-"} for subject, answer in facts])


def write_templates(folder, templates):
    write(folder, "relations", [{"relation": one, "template": text} for one, text in templates.items()])


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "lama"
    folder.mkdir()
    write_templates(folder, TEMPLATES)
    for name in TEMPLATES:
        write_facts(folder, name, facts_of(name))
    return folder


@pytest.fixture
def more(tmp_path):
    """Other facts of the relations, and two of those in `source`."""
    folder = tmp_path / "more"
    folder.mkdir()
    for name in TEMPLATES:
        write_facts(folder, name, [(f"new {name} {i}", OBJECTS[i % 4]) for i in range(6)] + facts_of(name)[:2])
    return folder


def tasks(source, seed=0, target_tasks=2, **changes):
    task_set.cache_clear()
    return task_set(Benchmark("lama", str(source), target_tasks=target_tasks, **changes), seed)


def everything(source, **changes):
    """All relations by name, as targets or as tasks to tune on."""
    found = tasks(source, **changes)
    return {task.name: task for task in (*found.training, *found.targets)}


def names(tasks):
    return [task.name for task in tasks]


def queries_of(task):
    return [*task.examples, *task.items]


def asked(name, facts):
    """The oracle: a relation's facts as prompts with their answers, by string formatting alone."""
    before = {
        "capital": "{} is the capital of",
        "born": "{} was born in",
        "speaks": "{} speaks",
        "part": "The {} is part of the",
    }[name]
    return sorted((before.format(subject), answer) for subject, answer in facts)


def answered(queries):
    return sorted((query.text, query.options[query.gold]) for query in queries)


def test_each_fact_is_its_template_up_to_the_object_and_is_answered_by_the_object(source):
    found = everything(source)
    assert found.keys() == TEMPLATES.keys()
    for name, task in found.items():
        assert answered(queries_of(task)) == asked(name, facts_of(name))


def test_the_options_are_all_objects_of_the_relation(source):
    write_facts(source, "born", [("a", "Ur"), ("b", "Rome"), ("c", "Ur"), ("d", "Bonn"), ("e", "Lima"), ("f", "Lima")])
    found = everything(source)
    assert {query.options for query in queries_of(found["born"])} == {("Bonn", "Lima", "Rome", "Ur")}
    assert {query.options for query in queries_of(found["speaks"])} == {tuple(sorted(OBJECTS))}


@pytest.mark.parametrize(
    "template",
    [
        "[Y] is home to [X] .",
        "[X] plays in [Y] position .",
        "[X] is a [Y]!",
        "Nobody knows [Y] .",
        "[X] has no object .",
    ],
)
def test_a_relation_whose_template_does_not_end_in_the_object_is_left_out_with_its_template(source, template):
    write_templates(source, {**TEMPLATES, "odd": template})
    write_facts(source, "odd", facts_of("odd"))
    found = tasks(source)
    assert sorted(names(found.training) + names(found.targets)) == sorted(TEMPLATES)
    assert found.left_out == {"odd": f"{template!r} does not end in the object"}


def test_relations_that_are_all_unusable_are_refused_with_the_reasons(source):
    write_templates(source, {"born": "[Y] bore [X] ."})
    message = r"^lama: no task to tune on is left\. born: '\[Y\] bore \[X\] \.' does not end in the object$"
    with pytest.raises(StudyError, match=message):
        tasks(source)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ([(f"s{i}", "Rome") for i in range(9)], "1 different objects"),
        ([], "0 different objects"),
    ],
    ids=["one object", "no facts"],
)
@pytest.mark.parametrize("target_tasks", [1, 2])
def test_a_relation_without_two_objects_is_left_out_and_the_rest_goes_on(source, facts, reason, target_tasks):
    write_facts(source, "born", facts)
    found = tasks(source, target_tasks=target_tasks)
    assert found.left_out == {"born": reason}
    assert sorted(names(found.training) + names(found.targets)) == ["capital", "part", "speaks"]
    assert len(found.targets) == target_tasks


def test_a_relation_without_a_file_is_left_out(source):
    (source / "born.jsonl").unlink()
    found = tasks(source)
    assert found.left_out == {"born": f"no file born.jsonl in {source}"}
    assert len(found.targets) == 2
    assert len(found.training) == 1


def test_repeated_facts_count_once(source):
    once = everything(source)
    for name in TEMPLATES:
        write_facts(source, name, [fact for fact in facts_of(name) for _ in range(3)] + facts_of(name))
    assert everything(source) == once


def test_the_draw_of_relations_is_fixed_and_the_rest_is_tuned_on(source):
    drawn = [tasks(source, seed, count) for count in (1, 2, 3) for seed in (0, 5)]
    order = names(drawn[-1].targets)
    for found in drawn:
        assert names(found.targets) == order[: len(found.targets)]
        assert sorted(names(found.training) + names(found.targets)) == sorted(TEMPLATES)
    assert [len(found.targets) for found in drawn] == [1, 1, 2, 2, 3, 3]


def test_the_draw_does_not_depend_on_the_order_of_the_file(source):
    before = tasks(source)
    write_templates(source, dict(reversed(TEMPLATES.items())))
    assert tasks(source) == before


def test_only_so_many_relations_are_tuned_on(source):
    assert names(tasks(source, training_tasks=1).training) == names(tasks(source).training)[:1]


def test_where_all_relations_are_evaluated_none_is_left_to_tune_on(source):
    with pytest.raises(StudyError, match=r"^lama: no task to tune on is left\."):
        tasks(source, target_tasks=None)


@pytest.mark.parametrize("seed", range(3))
def test_a_targets_facts_are_shown_or_evaluated_and_never_both(source, seed):
    for task in tasks(source, seed, examples=5).targets:
        shown, evaluated = answered(task.examples), answered(task.items)
        assert (len(shown), len(evaluated)) == (5, 6)
        assert not set(shown) & set(evaluated)
        assert set(shown + evaluated) <= set(asked(task.name, facts_of(task.name)))


def test_no_more_than_half_of_a_targets_facts_are_shown(source):
    for task in tasks(source, examples=64).targets:
        assert (len(task.examples), len(task.items)) == (6, 6)


def test_items_are_the_same_for_every_seed_and_the_examples_order_is_not(source):
    found = [tasks(source, seed, examples=5, items=4).targets[0] for seed in range(6)]
    assert len({task.items for task in found}) == 1
    assert len(found[0].items) == 4
    assert len({task.examples for task in found}) > 1


@pytest.mark.parametrize("seed", range(3))
def test_a_subject_that_is_shown_is_not_evaluated_with_another_object(source, seed):
    for name in TEMPLATES:
        write_facts(source, name, [(subject, other) for subject, _ in facts_of(name) for other in OBJECTS[:2]])
    for task in tasks(source, seed).targets:
        assert not {query.text for query in task.examples} & {query.text for query in task.items}


def test_relations_tuned_on_give_all_of_their_facts(source):
    for task in tasks(source, examples=2, items=2).training:
        assert answered(task.examples) == asked(task.name, facts_of(task.name))
        assert task.items == ()


def test_a_fact_that_is_evaluated_is_not_tuned_on_under_another_relation(source, more):
    (target,) = names(tasks(source, target_tasks=1, tuning_source=str(more)).targets)
    others = [name for name in TEMPLATES if name != target]
    for name in others:
        write_facts(source, name, [*facts_of(name), *facts_of(target)[:3]])
        write_facts(more, name, [("new", "Rome"), *facts_of(target)[3:6]])
    found = tasks(source, target_tasks=1, tuning_source=str(more))
    assert names(found.targets) == [target]
    assert sorted(names(found.training)) == sorted(others)
    for task in found.training:
        assert answered(task.examples) == asked(task.name, [*facts_of(task.name), ("new", "Rome")])


def test_facts_of_a_tuning_source_are_shown_and_all_facts_of_the_source_evaluated(source, more):
    for task in tasks(source, tuning_source=str(more)).targets:
        assert answered(task.items) == asked(task.name, facts_of(task.name))
        assert answered(task.examples) == asked(task.name, [(f"new {task.name} {i}", OBJECTS[i % 4]) for i in range(6)])


def test_objects_that_the_source_does_not_have_are_no_options(source, more):
    for name in TEMPLATES:
        write_facts(more, name, [("x", "Atlantis"), ("y", "Rome"), ("z", "Oslo")])
    for task in tasks(source, tuning_source=str(more)).targets:
        assert answered(task.examples) == asked(task.name, [("y", "Rome"), ("z", "Oslo")])
        assert {query.options for query in queries_of(task)} == {tuple(sorted(OBJECTS))}


def test_a_relation_that_the_tuning_source_lacks_is_left_out(source, more):
    (more / "part.jsonl").unlink()
    found = tasks(source, tuning_source=str(more))
    assert found.left_out == {"part": f"no file part.jsonl in {more}"}


@pytest.mark.parametrize("limit", [None, 17, 18])
def test_prompts_with_more_characters_than_the_limit_are_left_out(source, limit):
    subjects = ["x" * n for n in (4, 5, 6, 7, 7, 8)]
    facts = [(f"{subject[:-1]}{i}", OBJECTS[i % 4]) for i, subject in enumerate(subjects * 3)]
    write_templates(source, {"born": TEMPLATES["born"], "speaks": TEMPLATES["speaks"]})
    write_facts(source, "born", facts)
    write_facts(source, "speaks", [(subject.upper(), answer) for subject, answer in facts])
    kept = [fact for fact in dict.fromkeys(facts) if limit is None or len(f"{fact[0]} was born in") <= limit]
    assert answered(queries_of(everything(source, target_tasks=1, longest=limit)["born"])) == asked("born", kept)


@pytest.mark.parametrize("target_tasks", [1, 2])
def test_a_relation_whose_prompts_are_all_too_long_is_left_out(source, target_tasks):
    write_facts(source, "born", [("very " * 20 + subject, answer) for subject, answer in facts_of("born")])
    found = tasks(source, target_tasks=target_tasks, longest=60)
    assert found.left_out == {"born": "0 examples, of at most 60 characters, where 2 are needed"}


def test_a_relation_with_fewer_facts_than_are_needed_is_left_out(source):
    for name in ("born", "speaks"):
        write_facts(source, name, facts_of(name, 30))
    found = tasks(source, target_tasks=1, fewest=15)
    assert sorted(names(found.training) + names(found.targets)) == ["born", "speaks"]
    assert found.left_out.keys() == {"capital", "part"}
    assert all(reason.endswith("of any length, where 15 are needed") for reason in found.left_out.values())


@pytest.mark.parametrize("few", TEMPLATES)
def test_a_relation_with_too_few_facts_to_be_evaluated_is_not_tuned_on_in_its_place(source, few):
    write_facts(source, few, facts_of(few, 8))
    found = tasks(source, target_tasks=1, fewest=5)
    assert sorted([*names(found.training), *names(found.targets), *found.left_out]) == sorted(TEMPLATES)
    assert few not in names(found.targets)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("relations", {"relation": "born"}, r"relations\.jsonl, line 3: .*'template'"),
        ("relations", {"template": "[X] [Y]"}, r"relations\.jsonl, line 3: .*'relation'"),
        ("relations", "{oops", r"relations\.jsonl, line 3: not JSON"),
        ("born", {"sub_label": "Ada", "obj_label": ""}, r"born\.jsonl, line 3: obj_label .*text.* ''"),
        ("born", {"sub_label": None, "obj_label": "Rome"}, r"born\.jsonl, line 3: .*'sub_label'"),
        ("born", {"sub_label": 7, "obj_label": "Rome"}, r"born\.jsonl, line 3: sub_label .*text.* 7"),
        ("born", "[]", r"born\.jsonl, line 3: not an object\."),
    ],
)
@pytest.mark.parametrize("target_tasks", [1, 3])
def test_a_bad_line_is_refused_with_file_and_line(source, file, line, message, target_tasks):
    good = {"relation": "part", "template": TEMPLATES["part"], "sub_label": "Bo", "obj_label": "Rome"}
    write(source, file, [good, {**good, "relation": "speaks", "template": TEMPLATES["speaks"]}, line])
    with pytest.raises(StudyError, match=message):
        tasks(source, target_tasks=target_tasks)


def test_a_source_without_templates_is_refused(source):
    (source / "relations.jsonl").unlink()
    with pytest.raises(StudyError, match=rf"no file relations\.jsonl in {source}"):
        tasks(source)


def test_a_source_that_is_not_there_is_refused(source):
    with pytest.raises(StudyError, match=r"'.*/absent' is not a folder\. Allowed: "):
        tasks(source / "absent")


def test_a_tuning_source_that_is_not_there_is_refused_and_no_relation_left_out(source):
    with pytest.raises(StudyError, match=r"'.*/absent' is not a folder\. Allowed: "):
        tasks(source, tuning_source=str(source / "absent"))


@pytest.fixture
def published(source, tmp_path, monkeypatch):
    """The facts and templates of `source`, where the study looks for LAMA's."""
    (source / "relations.jsonl").rename(folder_of(lama.TEMPLATES[0], tmp_path) / lama.TEMPLATES[1])
    source.rename(folder_of(lama.FACTS, tmp_path))
    with github(tmp_path, monkeypatch):
        yield folder_of(lama.FACTS, tmp_path)


def test_relations_as_published_make_the_tasks_of_a_folder_with_the_same_facts(source, request):
    expected = tasks(source, examples=5)
    request.getfixturevalue("published")
    assert tasks("hub", examples=5) == expected


def test_a_relation_of_which_no_facts_are_published_is_a_missing_task(published):
    (published / "born.jsonl").unlink()
    with pytest.raises(MissingTaskError, match=r"no file born\.jsonl"):
        lama.Lama(Benchmark("lama", "hub")).queries("born")


def test_what_is_published_and_cannot_be_reached_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    with pytest.raises(StudyError, match=r"'github:princeton-nlp/OptiPrompt@.*network.*folder") as caught:
        tasks("hub")
    assert "\n" not in str(caught.value)


def test_of_the_embedded_relations_the_one_that_begins_with_its_object_is_left_out():
    found = task_set(Benchmark("lama", "embedded", target_tasks=2, examples=4), 0)
    assert sorted(names(found.training) + names(found.targets)) == ["colour", "home", "sound"]
    assert found.left_out == {"maker": "'[Y] is made by the [X] .' does not end in the object"}
    told = {query for task in (*found.training, *found.targets) for query in queries_of(task)}
    kinds = ("kennel", "stable", "tree", "sea", "house")
    assert Query("owl lives in the", tuple(sorted(kinds)), sorted(kinds).index("tree")) in told
