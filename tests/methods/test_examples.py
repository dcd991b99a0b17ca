"""Which examples a run is about: support sets, pools, what is held out of them, orders and sets of demonstrations."""

from collections import Counter
from dataclasses import replace

import pytest

from lib.errors import StudyError
from lib.methods.examples import (
    demonstrations_of,
    evaluation_items,
    examples_of,
    held_out_items,
    pool_by_domain,
    support_of,
    teacher_contexts,
)
from lib.runs.profile import read_profile
from lib.tasks.sources import queries
from lib.tasks.task import IN_DOMAIN, OUT_OF_DOMAIN
from tests.support.own_data import THINGS, things, write_csv


def run_of(method, profile="tiny", size=4, seed=0, **changes):
    (run,) = read_profile(profile, {"support_sizes": [size], "seeds": [seed], **changes}).runs((method,))
    return run


def labelling_of(profile="tiny", size=4, seed=0, **changes):
    return run_of("cd", profile, size, seed, **changes).distillation.labelling


def texts(rows):
    return {row.text for row in rows}


def pool_of(labelling):
    return [query for part in pool_by_domain(labelling) for query in part]


def test_a_pool_from_the_targets_domain_has_none_of_what_is_evaluated():
    asked = labelling_of(pool="target", pool_size=64)
    pool, overlap = pool_of(asked), asked.task.domains[OUT_OF_DOMAIN]
    assert overlap.name == "overlap"
    assert len(pool) == 64
    assert not texts(pool) & texts(evaluation_items(asked.task, OUT_OF_DOMAIN))
    assert texts(pool) <= texts(queries(asked.task, overlap, "train"))


@pytest.mark.parametrize("size", [20, 21])
def test_a_pool_of_both_is_half_of_each_domains(size):
    own, like_target = pool_by_domain(labelling_of(pool="both", pool_size=size))
    assert (len(own), len(like_target)) == (size - size // 2, size // 2)
    assert own == pool_of(labelling_of(pool="train", pool_size=len(own)))
    assert like_target == pool_of(labelling_of(pool="target", pool_size=len(like_target)))


@pytest.mark.parametrize("pool", ["target", "both"])
def test_without_a_set_out_of_domain_no_pool_is_drawn_from_it(pool):
    with pytest.raises(StudyError, match=r"pool: .*target"):
        pool_by_domain(labelling_of("smoke", out_of_domain=[], pool=pool))


@pytest.fixture
def one_file(tmp_path):
    """Settings under which in-domain and out-of-domain data are one file without splits."""
    rows = [(f"text {i}", "other", ("entailment", "non-entailment")[i % 2]) for i in range(60)]
    file = str(write_csv(tmp_path / "rows.csv", "premise,hypothesis,label", rows))
    return {
        "datasets": {"one": {"source": file}, "same": {"source": file}},
        "in_domain": "one",
        "out_of_domain": "same",
    }


@pytest.mark.parametrize("pool", ["target", "train"])
def test_where_one_file_is_both_pool_and_evaluation_only_the_rest_is_drawn(one_file, pool):
    asked = labelling_of("smoke", **one_file, pool=pool, pool_size=20, eval_limit=20)
    assert not texts(pool_of(asked)) & texts(evaluation_items(asked.task, OUT_OF_DOMAIN))
    assert len(pool_of(asked)) == 20


def test_where_one_file_is_both_splits_no_demonstration_is_evaluated(one_file):
    asked = labelling_of("smoke", size=8, **one_file, eval_limit=20, pool_size=4)
    evaluated = texts(evaluation_items(asked.task, IN_DOMAIN))
    for demonstrations, _ in teacher_contexts(asked):
        assert len(demonstrations) == 8
        assert not texts(demonstrations) & evaluated


def test_where_one_file_is_wholly_evaluated_nothing_is_left_to_learn_from(one_file):
    run = run_of("pbft", "smoke", **one_file)
    with pytest.raises(StudyError, match=r"eval_limit: .*60 rows of one"):
        support_of(run)


def test_a_pool_of_no_queries_is_the_support_set_left_one_out():
    asked = labelling_of(pool_size=0)
    assert asked == labelling_of(pool="support", pool_size=7)
    support = support_of(asked)
    assert pool_by_domain(asked) == [support]
    assert teacher_contexts(asked) == [(support[:i] + support[i + 1 :], [support[i]]) for i in range(4)]


def test_without_support_the_teacher_is_asked_without_demonstrations():
    asked = labelling_of(size=0)
    pool = pool_of(asked)
    assert support_of(asked) == demonstrations_of(asked) == []
    assert teacher_contexts(asked) == [([], pool)]
    assert len(pool) == asked.pool_size


def test_shuffled_labels_change_the_teachers_demonstrations_and_nothing_else():
    true, shuffled = (run_of("cd", size=8, demonstration_labels=labels) for labels in ("true", "shuffled"))
    before, after = examples_of(true), examples_of(shuffled)
    assert after.support == before.support
    assert after.pool == before.pool
    assert after.evaluation == before.evaluation
    contexts = [teacher_contexts(run.distillation.labelling) for run in (true, shuffled)]
    for (shown, asked), (as_true, asked_then) in zip(*contexts, strict=True):
        assert asked == asked_then
        assert [one.text for one in shown] == [one.text for one in as_true]
        assert [one.gold for one in shown] != [one.gold for one in as_true]
        assert Counter(one.gold for one in shown) == Counter(one.gold for one in as_true)


def test_shuffled_labels_stand_in_the_prompt_of_icl_and_in_no_training_row():
    icl, pbft = (examples_of(run_of(name, size=8, demonstration_labels="shuffled")) for name in ("icl", "pbft"))
    assert icl.demonstrations != icl.support == pbft.support == pbft.demonstrations
    assert [one.text for one in icl.demonstrations] == [one.text for one in icl.support]


@pytest.mark.parametrize(("shares", "counts"), [([0.25, 0.75], [2, 6]), ([1.0, 0.0], [8, 0])])
def test_a_pool_has_the_classes_in_the_shares_that_are_asked_for(shares, counts):
    pool = pool_of(labelling_of(pool_size=8, pool_shares=shares))
    assert [Counter(query.gold for query in pool)[place] for place in range(2)] == counts


@pytest.mark.parametrize(("shares", "counts"), [([0.5, 0.25, 0.25], [4, 2, 2]), ([0.0, 0.5, 0.5], [0, 4, 4])])
def test_shares_are_of_as_many_classes_as_there_are(tmp_path, shares, counts):
    asked = labelling_of("smoke", size=3, **things(tmp_path, pool_size=8, pool_shares=shares))
    pool = pool_of(asked)
    assert [Counter(query.gold for query in pool)[place] for place in range(3)] == counts
    assert not texts(pool) & texts(support_of(asked))


def test_a_pool_with_shares_of_both_domains_has_them_in_each():
    for part in pool_by_domain(labelling_of(pool="both", pool_size=16, pool_shares=[0.25, 0.75])):
        assert Counter(query.gold for query in part) == {0: 2, 1: 6}


def test_a_support_set_of_three_classes_has_as_many_of_each(tmp_path):
    run = run_of("icl", "smoke", size=6, **things(tmp_path))
    support = support_of(run)
    assert Counter(one.gold for one in support) == {0: 2, 1: 2, 2: 2}
    for one in support:
        name = run.task.classes[one.gold]
        assert one.text.removeprefix("a ").removesuffix("\nAnswer:") in THINGS[name].split()
        assert one.options == run.task.label_words


def test_all_examples_of_a_run_stand_in_one_value():
    run = run_of("cd", pool="both", pool_size=10)
    found = examples_of(run)
    assert found.support == found.demonstrations == support_of(run)
    assert found.pool == pool_by_domain(run.distillation.labelling)
    assert found.evaluation == {domain: evaluation_items(run.task, domain) for domain in (IN_DOMAIN, OUT_OF_DOMAIN)}
    assert found.unlabelled == {}
    assert examples_of(run_of("pbft")).pool == []


def test_every_set_out_of_domain_has_items_of_its_own(tmp_path):
    words = {"many": "dog horse goat oak rose fern", "few": "owl crab moss lily"}
    files = {
        name: str(write_csv(tmp_path / f"{name}.csv", "premise,hypothesis,label", rows))
        for name, of_name in words.items()
        if (rows := [(word, name, ("entailment", "non-entailment")[i % 2]) for i, word in enumerate(of_name.split())])
    }
    settings = {"datasets": {name: {"source": file} for name, file in files.items()}, "out_of_domain": [*files]}
    found = examples_of(run_of("icl", "smoke", **settings)).evaluation
    assert list(found) == ["in_domain", "out_of_domain", "out_of_domain_2"]
    assert [len(items) for items in found.values()] == [4, 6, 4]
    assert {item.text.split()[0] for item in found["out_of_domain_2"]} == set(words["few"].split())


@pytest.mark.parametrize("method", ["baseline", "icl", "pbft", "cd"])
def test_unlabelled_queries_are_like_a_domains_items_and_are_neither_evaluated_nor_shown(method):
    run = run_of(method, calibration_pool=12)
    found = examples_of(run)
    assert {domain: len(asked) for domain, asked in found.unlabelled.items()} == {IN_DOMAIN: 12, OUT_OF_DOMAIN: 12}
    for domain, asked in found.unlabelled.items():
        assert texts(asked) <= texts(queries(run.task, run.task.domains[domain], "train"))
        assert not texts(asked) & texts([*found.support, *found.evaluation[domain]])


@pytest.mark.parametrize(("pool", "domain"), [("train", IN_DOMAIN), ("target", OUT_OF_DOMAIN)])
@pytest.mark.parametrize("shares", [None, [0.25, 0.75]])
def test_unlabelled_queries_of_a_student_that_is_distilled_are_drawn_as_its_pool_is(pool, domain, shares):
    found = examples_of(run_of("cd", pool=pool, pool_size=12, calibration_pool=12, pool_shares=shares))
    assert found.unlabelled[domain] == found.pool[0]


HANS = [
    (f"{split} {label} {sub} {template} {i}", "h", label, f"{label[0]} {sub}", f"temp{template}", split)
    for split in ("train", "test")
    for label in ("entailment", "non-entailment")
    for sub in range(5)
    for template in range(3)
    for i in range(2)
]


@pytest.fixture
def made(tmp_path):
    """Settings with a set out of domain whose rows say how they were made: 60 to draw from, 60 to evaluate."""
    file = write_csv(tmp_path / "made.csv", "premise,hypothesis,label,subcase,template,split", HANS)
    own = {"source": str(file), "kind": ["subcase", "template"]}
    return {"datasets": {"made": own}, "out_of_domain": "made", "pool": "target", "pool_size": 8}


def test_half_of_each_classs_subcases_are_held_out_whole(made):
    subcases = {row[3] for row in HANS}
    gone = {}
    for seed in (0, 1):
        pool = pool_of(labelling_of("smoke", seed=seed, **{**made, "held_out": "subcases", "pool_size": 36}))
        gone[seed] = subcases - {query.kind[0] for query in pool}
        assert Counter(name[0] for name in gone[seed]) == {"e": 2, "n": 2}
        assert Counter(query.kind[0] for query in pool) == dict.fromkeys(subcases - gone[seed], 6)
    assert gone[0] != gone[1]


def test_of_each_subcase_some_templates_are_held_out_and_some_stay(made):
    pool = pool_of(labelling_of("smoke", **{**made, "held_out": "templates", "pool_size": 40}))
    assert {query.kind[0] for query in pool} == {row[3] for row in HANS}
    for subcase in {row[3] for row in HANS}:
        assert len({query.kind[1] for query in pool if query.kind[0] == subcase}) == 2


@pytest.mark.parametrize(("level", "left"), [("nothing", 60), ("subcases", 36), ("templates", 40)])
def test_a_pool_is_as_large_as_what_is_not_held_out_and_no_larger(made, level, left):
    assert len(pool_of(labelling_of("smoke", **{**made, "held_out": level, "pool_size": left}))) == left
    with pytest.raises(StudyError, match=rf"pool_size: {left + 1} .*{left} are left"):
        pool_of(labelling_of("smoke", **{**made, "held_out": level, "pool_size": left + 1}))


@pytest.mark.parametrize("level", ["subcases", "templates"])
def test_data_that_do_not_say_how_rows_were_made_are_refused(made, level):
    del made["datasets"]["made"]["kind"]
    with pytest.raises(StudyError, match=rf"held_out: {level} .*subcase and template"):
        pool_of(labelling_of("smoke", **made, held_out=level))


@pytest.mark.parametrize(("level", "left"), [("subcases", 36), ("templates", 40)])
def test_items_whose_kind_the_pool_lacks_are_told_from_the_rest(made, level, left):
    asked = labelling_of("smoke", **{**made, "held_out": level, "pool_size": left})
    kept = {query.kind for query in pool_of(asked)}
    items, away = evaluation_items(asked.task, OUT_OF_DOMAIN), held_out_items(asked)
    assert away == [item.kind not in kept for item in items]
    assert sum(away) == len(items) - left
    assert not any(held_out_items(replace(asked, held_out="nothing")))


def test_unlabelled_queries_of_a_student_lack_what_its_pool_lacks(made):
    run = run_of("cd", "smoke", **made, held_out="subcases", in_domain="made", calibration_pool=20)
    subcases = [{query.kind[0] for query in examples_of(run).unlabelled[domain]} for domain in run.task.domains]
    kept = {query.kind[0] for query in pool_of(replace(run.distillation.labelling, pool_size=20))}
    assert subcases[1] <= kept
    assert not subcases[0] <= kept


def test_what_is_reserved_is_neither_evaluated_nor_learnt_from_in_a_file_of_both_splits(tmp_path):
    rows = [(f"word{i}", ("animal", "plant")[i % 2]) for i in range(40)]
    file = write_csv(tmp_path / "words.csv", "word,class", rows)
    of_words = {"datasets": {"things": {"source": str(file), "label": "class"}}, "eval_limit": 10}
    changes = things(tmp_path, {"animal": "animal", "plant": "plant"}) | of_words
    reported = run_of("cd", "smoke", pool_size=14, **changes)
    run = run_of("cd", "smoke", pool_size=16, **changes, reserved=[10, 0])
    away = texts(evaluation_items(reported.task, IN_DOMAIN))
    used = [*evaluation_items(run.task, IN_DOMAIN), *support_of(run), *pool_of(run.distillation.labelling)]
    assert len(away) == 10
    assert len(texts(used)) == 40 - 10
    assert not texts(used) & away
