"""Settings of in-context learning distillation: what is refused, what becomes a run, what renames which runs."""

import pytest
import yaml

from lib.errors import StudyError
from lib.methods.records import EpisodeObjective
from lib.methods.table import METHODS, ON_BENCHMARKS
from lib.paths import PROFILES
from lib.runs.profile import profile_names, read_profile
from lib.runs.provenance import key

CONTENT = yaml.safe_load((PROFILES / "smoke.yaml").read_text())["profile"]
BENCHMARKS = ("crossfit", "lama")
STUDENTS = {"ict", "icl_d", "icl_d_lm"}
DISTILLED = {"icl_d", "icl_d_lm"}
TUNED = {"teacher_ict", *STUDENTS}
ALL = set(ON_BENCHMARKS)
TEACHERS = {"teacher_ict", *DISTILLED}  # what a tuned teacher has a part in


def runs_of(changes=None, benchmark="crossfit", profile="smoke"):
    return read_profile(profile, changes).in_context_runs(benchmark)


def only(runs, method, paradigm=None, seed=0):
    (found,) = [run for run in runs if (run.method, run.in_context.paradigm, run.seed) == (method, paradigm, seed)]
    return found


def renamed(changes, benchmark="crossfit"):
    """The methods whose runs all have other keys after a change; those of the others have to be as they were."""
    keys = [
        {name: {key(run) for run in runs if run.method == name} for name in ON_BENCHMARKS}
        for runs in (runs_of(None, benchmark), runs_of(changes, benchmark))
    ]
    before, after = keys
    assert all(before[name].isdisjoint(after[name]) or before[name] == after[name] for name in ON_BENCHMARKS)
    return {name for name in ON_BENCHMARKS if before[name] != after[name]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_contxt.steps": 3}, r"profile key: 'in_contxt'.* Did you mean 'in_context'\?"),
        ({"in_context.stps": 3}, r"in_context: 'stps' is not known.*steps"),
        ({"in_context.lama.itms": 3}, r"in_context\.lama: 'itms' is not known.*items"),
        ({"in_context.lama.items.x": 3}, r"in_context\.lama\.items: \{'x': 3\} is not allowed"),
        ({"in_context": 3}, r"in_context: 3 is not allowed"),
        ({"in_context.steps": 0}, r"in_context\.steps: 0 is not allowed.*greater than 0"),
        ({"in_context.votes": 0}, r"in_context\.votes: 0 is not allowed.*greater than 0"),
        ({"in_context.seeds": []}, r"in_context\.seeds: \[\] is not allowed.*at least 1"),
        ({"in_context.seeds": [-1]}, r"in_context\.seeds\.0: -1 is not allowed"),
        ({"in_context.paradigms": ["metta"]}, r"in_context\.paradigms\.0: 'metta' is not known.*meta, multitask"),
        ({"in_context.hard_weight": "falls"}, r"hard_weight: 'falls' is not known.*constant, linear, cosine"),
        ({"in_context.hard_weight": "constant"}, r"hard_weight: 'constant' needs hard_start below 1"),
        ({"in_context.hard_start": 1.5}, r"in_context\.hard_start: 1\.5 is not allowed"),
        ({"in_context.lm_weight": 0}, r"in_context\.lm_weight: 0 is not allowed.*greater than 0"),
        ({"in_context.lm_weight": float("inf")}, r"in_context\.lm_weight: inf is not allowed.*finite"),
        ({"in_context.learning_rate": -1.0}, r"in_context\.learning_rate: -1\.0 is not allowed"),
        ({"in_context.crossfit.learning_rate": {"metta": 0.1}}, r"learning_rate\.metta.*meta, multitask"),
        ({"in_context.lama.teacher_learning_rate.meta": 0}, r"teacher_learning_rate\.meta: 0 is not allowed"),
        ({"in_context.options": 1}, r"in_context\.options: 1 is not allowed.*greater than 1"),
        ({"in_context.tuning": "bitfit"}, r"in_context\.tuning: 'bitfit' is not known.*full, lora"),
        ({"in_context.crossfit.demonstrations": 0}, r"crossfit\.demonstrations: 0 is not allowed.*greater than 0"),
        ({"in_context.crossfit.curve": [-1]}, r"crossfit\.curve\.0: -1 is not allowed"),
        ({"in_context.lama.demonstrations": 64}, r"examples: 64 of each target are too few.*65 are needed"),
        ({"in_context.lama.curve": [1, 80]}, r"examples: 64 of each target are too few.*80 are needed"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_bad_setting_is_refused_with_key_value_and_what_is_allowed(changes, words):
    with pytest.raises(StudyError, match=words):
        read_profile("smoke", changes)


def test_a_benchmark_without_its_settings_is_refused_with_each_that_lacks():
    with pytest.raises(StudyError, match=r"(?s)lama\.source.*lama\.demonstrations"):
        read_profile({**CONTENT, "in_context": {**CONTENT["in_context"], "lama": {"items": 3}}})


def test_a_change_of_a_nested_setting_leaves_all_others_and_the_content_as_they_were():
    before = yaml.safe_dump(CONTENT)
    changes = {"in_context.lama.items": 3, "in_context.lama.curve": [2], "in_context.steps": 9}
    changed = read_profile(CONTENT, changes).in_context
    assert yaml.safe_dump(CONTENT) == before
    settings = read_profile(CONTENT).in_context
    expected = {**settings.model_dump(), "steps": 9}
    expected["lama"] |= {"items": 3, "curve": (2,)}
    assert changed.model_dump() == expected


def test_a_part_that_the_profile_lacks_can_be_set_piece_by_piece():
    changes = {"in_context.seeds": [3], "in_context.steps": 1, "in_context.batch_size": 1}
    changes |= {"in_context.learning_rate": 1e-3, "in_context.lama.source": "embedded"}
    changes |= {"in_context.lama.demonstrations": 1}
    content = {name: value for name, value in CONTENT.items() if name != "in_context"}
    profile = read_profile(content, changes)
    assert {run.seed for run in profile.in_context_runs("lama")} == {3}
    assert profile.in_context_runs("crossfit") == []


def test_a_changed_profile_keeps_its_settings_in_context():
    profile = read_profile("smoke", {"in_context.lama.items": 3}).changed({"in_context.steps": 9})
    assert profile == read_profile("smoke", {"in_context.lama.items": 3, "in_context.steps": 9})


@pytest.mark.parametrize("changes", [{"in_context": None}, {"in_context.lama": None}])
def test_a_profile_without_a_benchmark_has_no_runs_of_it(changes):
    assert runs_of(changes, "lama") == []
    assert bool(runs_of(changes)) == ("in_context.lama" in changes)


@pytest.mark.parametrize("name", profile_names())
def test_runs_of_every_shipped_profile_are_of_all_methods(name):
    for benchmark in BENCHMARKS:
        runs = runs_of(None, benchmark, name)
        assert not runs or {run.method for run in runs} == ALL


def test_settings_in_context_rename_no_run_of_context_distillation():
    without, changed = read_profile("smoke", {"in_context": None}), read_profile("smoke", {"in_context.steps": 9})
    assert (
        list(map(key, without.runs())) == list(map(key, changed.runs())) == list(map(key, read_profile("smoke").runs()))
    )


def test_each_tuned_method_has_a_run_a_paradigm_and_seed_and_each_untuned_one_a_seed():
    runs = runs_of()
    found = [(run.method, run.in_context.paradigm, run.seed) for run in runs]
    expected = {(name, paradigm, seed) for name in TUNED for paradigm in ("meta", "multitask") for seed in (0, 1)}
    assert set(found) == expected | {(name, None, seed) for name in ALL - TUNED for seed in (0, 1)}
    assert len(found) == len(set(found))
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_one_paradigm_alone_can_be_asked_for():
    found = {(run.method, run.in_context.paradigm) for run in runs_of({"in_context.paradigms": ["multitask"]})}
    assert found == {(name, "multitask") for name in TUNED} | {(name, None) for name in ALL - TUNED}


def test_one_tuned_teacher_a_paradigm_and_seed_is_shared_by_its_own_evaluation_and_its_students():
    by_run = {}
    for run in runs_of():
        if run.in_context.teacher:
            by_run.setdefault((run.in_context.paradigm, run.seed), []).append((run.method, run.in_context.teacher))
    assert {run: {name for name, _ in users} for run, users in by_run.items()} == {
        (paradigm, seed): TEACHERS for paradigm in ("meta", "multitask") for seed in (0, 1)
    }
    assert all(len({key(teacher) for _, teacher in users}) == 1 for users in by_run.values())
    assert len({users[0][1] for users in by_run.values()}) == 4
    assert {run.method for run in runs_of() if run.in_context.teacher is None} == ALL - TEACHERS


def test_students_and_their_teacher_are_tuned_on_the_same_episodes():
    for run in runs_of():
        episodes = [part.episodes for part in (run.in_context, run.needs) if part and part.episodes]
        assert all(
            (one.paradigm, one.seed, one.benchmark) == (run.in_context.paradigm, run.seed, run.task) for one in episodes
        )
        assert len(set(episodes)) <= 1
        assert bool(episodes) == (run.method in TUNED)
        assert (
            (run.in_context.episodes is not None)
            == (run.training is not None)
            == (run.in_context.objective is not None)
        )
        assert (run.in_context.episodes is not None) == (run.method in STUDENTS)


def test_the_methods_are_instances_of_one_objective():
    changes = {"in_context.lm_weight": 0.3, "temperature": 2.0, "in_context.lm_characters": 50}
    mixtures = {run.method: run.in_context.objective for run in runs_of(changes) if run.in_context.objective}
    assert mixtures == {
        "ict": EpisodeObjective("constant", 0.0),
        "icl_d": EpisodeObjective("linear", 0.0, 2.0),
        "icl_d_lm": EpisodeObjective("linear", 0.3, 2.0, "inputs", 2, 50),
    }
    fixed = {"in_context.hard_weight": "constant", "in_context.hard_start": 0.5}
    mixtures = {run.method: run.in_context.objective for run in runs_of(fixed) if run.in_context.objective}
    assert mixtures["ict"] == EpisodeObjective("constant", 0.0)
    assert (mixtures["icl_d"].hard, mixtures["icl_d"].hard_start) == ("constant", 0.5)


def test_only_answers_of_models_tuned_on_several_tasks_are_put_to_the_vote():
    votes = {(run.method, run.in_context.paradigm): run.in_context.votes for run in runs_of({"in_context.votes": 3})}
    assert votes == {(name, "multitask"): 3 for name in TUNED} | {(name, "meta"): 1 for name in TUNED} | {
        (name, None): 1 for name in ALL - TUNED
    }


def test_models_are_evaluated_at_the_k_of_tuning_and_along_the_curve():
    changes = {"in_context.crossfit.demonstrations": 2, "in_context.crossfit.curve": [3, 0, 2]}
    runs = runs_of(changes)
    assert {run.in_context.demonstrations for run in runs} == {(0, 2, 3)}
    assert {run.in_context.episodes.demonstrations for run in runs if run.in_context.episodes} == {2}
    assert {run.in_context.teacher.episodes.demonstrations for run in runs if run.in_context.teacher} == {2}


def test_models_are_the_profiles_unless_they_are_named_and_have_its_types():
    types = {"student_dtype": "bfloat16", "teacher_dtype": "float16"}
    named = {"in_context.student": "small", "in_context.teacher": "large"}
    for changes, student, teacher in ((types, "random-opt-student", "random-opt-teacher"), (named, "small", "large")):
        runs = runs_of({**types, **changes})
        evaluated = {run.method: (run.model, run.dtype) for run in runs}
        assert evaluated == {
            name: (teacher, "float16") if METHODS[name].teacher_answers else (student, "bfloat16")
            for name in ON_BENCHMARKS
        }
        assert {
            (run.in_context.teacher.model, run.in_context.teacher.dtype) for run in runs if run.in_context.teacher
        } == {(teacher, "float16")}


def test_a_teacher_is_tuned_as_its_students_are_unless_it_has_settings_of_its_own():
    alike = only(runs_of({"in_context.tuning": "lora"}), "icl_d", "meta")
    assert alike.training == alike.in_context.teacher.training
    own = {"in_context.teacher_tuning": "lora", "in_context.teacher_learning_rate": 0.5}
    apart = only(runs_of(own), "icl_d", "meta")
    assert (apart.training.tuning, apart.training.learning_rate, apart.training.lora_rank) == ("full", 1e-3, None)
    taught = apart.in_context.teacher.training
    assert (taught.tuning, taught.learning_rate, taught.lora_rank) == ("lora", 0.5, 8)


def test_a_benchmarks_own_rate_under_a_paradigm_comes_before_that_of_all():
    common = {"in_context.learning_rate": 0.1, "in_context.teacher_learning_rate": 0.2}
    own = {"in_context.crossfit.learning_rate": {"multitask": 0.3}}
    taught = {"in_context.crossfit.teacher_learning_rate.meta": 0.4}

    def rates(changes, benchmark="crossfit"):
        runs = runs_of(changes, benchmark)
        found = [only(runs, "icl_d", paradigm) for paradigm in ("meta", "multitask")]
        return [(run.training.learning_rate, run.in_context.teacher.training.learning_rate) for run in found]

    assert rates(common | own) == [(0.1, 0.2), (0.3, 0.2)]
    assert rates(common | own | taught) == [(0.1, 0.4), (0.3, 0.2)]
    assert rates(common | own, "lama") == [(0.1, 0.2), (0.1, 0.2)]
    assert rates(own)[1] == (0.3, 0.3)


def test_what_the_settings_do_not_say_of_training_is_the_profiles():
    changes = {"lora_rank": 4, "lora_dropout": 0.1, "weight_decay": 0.2, "training_dtype": "bfloat16"}
    run = only(runs_of(changes | {"in_context.teacher_tuning": "lora"}), "icl_d", "meta")
    taught = run.in_context.teacher.training
    assert (taught.lora_rank, taught.lora_dropout, taught.weight_decay, taught.dtype) == (4, 0.1, 0.2, "bfloat16")
    assert (run.training.lora_rank, run.training.weight_decay, run.training.dtype) == (None, 0.2, "bfloat16")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"in_context.lm_weight": 0.5}, {"icl_d_lm"}),
        ({"in_context.lm_batch": 3}, {"icl_d_lm"}),
        ({"temperature": 2.0}, DISTILLED),
        ({"in_context.hard_weight": "cosine"}, DISTILLED),
        ({"in_context.hard_start": 0.5}, DISTILLED),
        ({"weight_decay": 0.1}, TUNED),
        ({"training_dtype": "bfloat16"}, TUNED),
        ({"in_context.teacher_learning_rate": 0.5}, TEACHERS),
        ({"in_context.teacher_tuning": "lora"}, TEACHERS),
        ({"in_context.teacher": "another"}, {"teacher_untuned", *TEACHERS}),
        ({"in_context.student": "another"}, {"untuned", *STUDENTS}),
        ({"in_context.steps": 5}, TUNED),
        ({"in_context.options": 3}, TUNED),
        ({"in_context.learning_rate": 0.5}, TUNED),
        ({"in_context.crossfit.learning_rate": {"meta": 0.5, "multitask": 0.5}}, TUNED),
        ({"in_context.crossfit.teacher_learning_rate": {"meta": 0.5, "multitask": 0.5}}, TEACHERS),
        ({"in_context.lama.learning_rate.meta": 0.5, "in_context.lama.teacher_learning_rate.meta": 0.5}, set()),
        ({"eval_batch_size": 3}, ALL),
        ({"in_context.length_normalized": True}, ALL),
        ({"in_context.crossfit.items": 3}, ALL),
        ({"in_context.crossfit.training_tasks": 1}, ALL),
        ({"in_context.crossfit.curve": [1]}, ALL),
        ({"in_context.lama.items": 3, "isolate": True, "learning_rate": 0.5, "seeds": [3]}, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_setting_renames_the_runs_that_it_bears_on_and_no_others(changes, expected):
    assert renamed(changes) == expected


def test_further_k_at_which_models_are_evaluated_tune_no_other_teacher():
    teachers = [
        {run.in_context.teacher for run in runs_of(changes) if run.in_context.teacher}
        for changes in ({"in_context.crossfit.curve": [0]}, {"in_context.crossfit.curve": [0, 1, 3]})
    ]
    assert teachers[0] == teachers[1]


def test_the_two_benchmarks_share_no_run():
    keys = [{key(run) for run in runs_of(None, benchmark)} for benchmark in BENCHMARKS]
    assert keys[0].isdisjoint(keys[1])
