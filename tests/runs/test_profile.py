"""Profiles: what is refused and with which words, what becomes a run, and which settings rename which runs."""

import json

import pytest
import yaml

from lib.errors import StudyError
from lib.methods.table import METHODS
from lib.paths import PROFILES
from lib.runs.profile import profile_names, read_profile
from lib.runs.provenance import key
from lib.tasks.patterns import PATTERNS
from lib.tasks.sources import queries
from lib.tasks.world import draw_label_words

CONTENT = yaml.safe_load((PROFILES / "smoke.yaml").read_text())["profile"]
OF_SMOKE = tuple(CONTENT["methods"])
TRAINED = [name for name in OF_SMOKE if METHODS[name].tuning]
RATES = dict.fromkeys(TRAINED, 1e-3)
KNOWN = ", ".join(PATTERNS)


def keys(changes=None, profile=CONTENT):
    """The keys of each method's runs."""
    runs = read_profile(profile, changes).runs()
    return {name: [key(run) for run in runs if run.method == name] for name in OF_SMOKE}


def renamed(changes, profile=CONTENT):
    before, after = keys(profile=profile), keys(changes, profile)
    assert all(set(before[name]).isdisjoint(after[name]) or before[name] == after[name] for name in OF_SMOKE)
    return {name for name in OF_SMOKE if before[name] != after[name]}


@pytest.mark.parametrize("fastest", ["float32", "bfloat16"])
def test_the_fastest_precision_of_the_machine_is_what_the_run_then_says(fastest, monkeypatch):
    monkeypatch.setattr("lib.runs.settings.fastest_dtype", lambda device: fastest)
    auto, named = (dict.fromkeys(("student_dtype", "teacher_dtype"), dtype) for dtype in ("auto", fastest))
    assert read_profile(CONTENT, auto) == read_profile(CONTENT, named)
    assert keys(auto) == keys(named)
    assert {run.dtype for run in read_profile(CONTENT, auto).runs()} == {fastest}


def test_steps_are_packed_and_fused_where_a_profile_does_not_say_otherwise():
    trained = read_profile("laptop").runs(("pbft", "cd"))
    assert {(run.training.padding_free, run.training.fused) for run in trained} == {(True, True)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lerning_rate": 1.0}, r"profile key: 'lerning_rate'.* Did you mean 'learning_rate'\? Allowed: name, about"),
        ({"kl_wieght.cd": 1.0}, r"profile key: 'kl_wieght'.* Did you mean 'kl_weight'\?"),
        ({"methods": ["pbtf"]}, r"methods\.0: 'pbtf' is not known.*'pbft'.*baseline, icl.*cd_bitfit"),
        ({"student_dtype": "float64"}, r"student_dtype: 'float64' is not known.*float32, bfloat16, float16"),
        ({"teacher_dtype": "int8"}, r"teacher_dtype: 'int8' is not known.*float32"),
        ({"pattern": "gpt3"}, rf"pattern: 'gpt3' .*{KNOWN}"),
        ({"teacher_memory": "disk"}, r"teacher_memory: 'disk' is not known.*whole, streamed, auto"),
        ({"accumulate": 2, "optimizer_in_backward": True}, r"accumulate: 2 .*optimizer_in_backward: true.*with it: 1"),
        ({"frozen_dtype": "bfloat16"}, r"frozen_dtype: 'bfloat16' needs a training_dtype.*'float32'"),
        ({"learning_rate": -0.1}, r"learning_rate.*-0\.1 is not allowed.*greater than 0"),
        ({"learning_rate": {**RATES, "cd": -0.1}}, r"learning_rate.*cd: -0\.1 is not allowed.*greater than 0"),
        ({"learning_rate": float("nan")}, r"learning_rate.*nan is not allowed"),
        ({"kl_weight": float("nan")}, r"kl_weight: nan is not allowed"),
        ({"temperature": float("inf")}, r"temperature: inf is not allowed.*finite"),
        ({"kl_weight": 1.5}, r"kl_weight: 1\.5 is not allowed.*less than or equal to 1"),
        ({"eval_limit": 1}, r"eval_limit: 1 is not allowed.*greater than 1"),
        ({"pool_shares": [0.5, 0.4]}, r"pool_shares: \[0\.5, 0\.4\].* sum to 1"),
        ({"pool_shares": [0.2, 0.3, 0.5]}, r"pool_shares: \[0\.2, 0\.3, 0\.5\] must be 2 shares"),
        ({"epochs": 0}, r"epochs.*0 is not allowed.*greater than 0"),
        ({"support_sizes": []}, r"support_sizes: \[\] is not allowed.*at least 1"),
        ({"seeds": [-1]}, r"seeds\.0: -1 is not allowed.*greater than or equal to 0"),
        ({"workers": 2, "isolate": True}, r"workers: 2 at a time would disturb each other's costs; set isolate: false"),
        ({"workers": "all"}, r"workers: 'all' is not allowed"),
        ({"cluster": "tcp://a:1", "isolate": True}, r"cluster: the workers of tcp://a:1 would .* set isolate: false"),
        ({"worker_memory": 0}, r"worker_memory: 0.*greater than 0"),
        ({"workers": 0}, r"workers: 0 is not allowed.*greater than 0"),
        ({"support_sizes": [-1]}, r"support_sizes\.0: -1 is not allowed.*greater than or equal to 0"),
        ({"label_words": "dawn"}, r"label_words.*'dawn' is not allowed"),
        ({"device": "mps"}, r"device: 'mps' is not known.*cpu, cuda"),
        ({"name": "../elsewhere"}, r"name: '\.\./elsewhere' is not allowed.*pattern"),
        ({"pool_size.cd": 3}, r"pool_size\.cd: a setting by method: 'pool_size' is not known.*learning_rate, epochs"),
        ({"learning_rate.cdd": 1.0}, r"learning_rate.*'cdd' is not known.*'cd'"),
        ({"learning_rate": {"cd": 1e-3}}, r"learning_rate: no value for pbft, pbft_lora, .*each trained method"),
        ({"epochs": {**RATES, "baseline_": 1}}, r"epochs.*'baseline_' is not known.*baseline, icl"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_bad_setting_is_refused_with_key_value_and_what_is_allowed(changes, words):
    with pytest.raises(StudyError, match=words):
        read_profile("smoke", changes)


def test_all_bad_settings_are_named_at_once():
    with pytest.raises(StudyError, match=r"(?s)kl_weight: 2.*temperature: 0"):
        read_profile("smoke", {"kl_weight": 2, "temperature": 0})


def test_all_settings_that_cannot_be_had_together_are_named_at_once():
    changes = {"workers": 2, "isolate": True, "kl_over": "vocabulary", "calibration": "pool"}
    with pytest.raises(StudyError, match=r"(?s)workers: 2.*calibration: 'pool'"):
        read_profile("smoke", changes)


def test_an_unknown_profile_is_refused_with_the_shipped_ones():
    with pytest.raises(StudyError, match=r"profile: 'smok' .*Did you mean 'smoke'\?.*laptop.*smoke.*\.yaml"):
        read_profile("smok")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profile: {name: [", r"broken\.yaml, line 1, column 18: not YAML"),
        ("name: smoke", r"broken\.yaml: one key, 'profile'"),
        ("profile: {}\nother: 1", r"broken\.yaml: one key, 'profile'"),
        ("profile: smoke", r"broken\.yaml: one key, 'profile'"),
        ("", r"broken\.yaml: one key, 'profile'"),
    ],
)
def test_a_broken_profile_file_is_refused_by_name(tmp_path, text, words):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(StudyError, match=f"(?s){words}"):
        read_profile(str(file))


def test_a_profile_reads_the_same_by_name_by_path_and_as_content():
    assert read_profile("smoke") == read_profile(str(PROFILES / "smoke.yaml")) == read_profile(CONTENT)


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_valid_and_named_as_its_file(name):
    profile = read_profile(name)
    assert profile.name == name
    assert {run.method for run in profile.runs()} == set(profile.methods)


def test_the_smoke_and_the_laptop_profile_are_shipped():
    assert {"smoke", "laptop"} <= set(profile_names())


def test_changes_replace_settings_and_leave_the_content_as_it_was():
    content = {**CONTENT, "learning_rate": dict(RATES)}
    profile = read_profile(content, {"learning_rate.cd": 0.5, "kl_weight": 0.25})
    assert (profile.learning_rate["cd"], profile.learning_rate["pbft"], profile.kl_weight) == (0.5, 1e-3, 0.25)
    assert content["learning_rate"] == RATES


def test_a_value_by_method_reaches_its_own_runs():
    rates = {name: 10.0**-i for i, name in enumerate(TRAINED)}
    runs = read_profile("smoke", {"learning_rate": rates, "epochs": {**dict.fromkeys(TRAINED, 1), "cd": 7}}).runs()
    assert {run.method: run.training.learning_rate for run in runs if run.training} == rates
    assert {run.method: run.training.epochs for run in runs if run.training}["cd"] == 7


def test_each_method_has_a_run_for_every_size_and_seed_but_the_baseline_has_one():
    counts = {name: len(names) for name, names in keys().items()}
    assert counts == {"baseline": 1} | dict.fromkeys([name for name in OF_SMOKE if name != "baseline"], 2 * 2)


def test_runs_come_seed_by_seed():
    seeds = [run.seed for run in read_profile("smoke").runs() if run.method == "icl"]
    assert seeds == sorted(seeds)


def test_runs_can_be_asked_for_by_method():
    asked = read_profile("smoke").runs(("cd", "icl"))
    assert asked == [run for run in read_profile("smoke").runs() if run.method in ("cd", "icl")]


def test_only_the_teacher_is_evaluated_as_itself():
    models = {run.method: run.model for run in read_profile("smoke").runs()}
    assert {name for name, model in models.items() if model == "random-opt-teacher"} == {"teacher_icl"}


DISTILLED = {"cd", "cd_lora", "cd_bitfit"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kl_weight": 0.25}, DISTILLED),
        ({"temperature": 2.0}, DISTILLED),
        ({"ce_on": "pool"}, DISTILLED),
        ({"pool": "support"}, DISTILLED),
        ({"pool_size": 1}, DISTILLED),
        ({"kl_over": "vocabulary"}, DISTILLED),
        ({"batch_size": 3}, set(TRAINED)),
        ({"lora_rank": 2}, {"pbft_lora", "cd_lora"}),
        ({"teacher": "another"}, {"teacher_icl", *DISTILLED}),
        ({"student": "another"}, set(OF_SMOKE) - {"teacher_icl"}),
        ({"eval_limit": 2}, set(OF_SMOKE)),
        ({"about": "something else", "isolate": True}, set()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_setting_renames_the_runs_that_it_bears_on_and_no_others(changes, expected):
    assert renamed(changes) == expected


def test_a_change_for_one_method_leaves_the_one_value_of_the_others():
    profile = read_profile("smoke", {"learning_rate.cd": 0.5})
    rates = {run.method: run.training.learning_rate for run in profile.runs() if run.training}
    assert rates == {**dict.fromkeys(TRAINED, read_profile("smoke").learning_rate), "cd": 0.5}


@pytest.mark.parametrize("setting", ["learning_rate", "epochs"])
def test_a_setting_of_one_method_renames_that_method_alone(setting):
    profile = {**CONTENT, setting: dict.fromkeys(TRAINED, 1)}
    assert renamed({f"{setting}.cd": 2}, profile) == {"cd"}


def test_the_pool_size_does_not_count_where_the_support_set_is_the_pool():
    profile = {**CONTENT, "pool": "support"}
    assert renamed({"pool_size": 1}, profile) == set()


def test_support_size_0_is_for_the_methods_to_which_it_is_something_new():
    runs = read_profile("smoke", {"support_sizes": [0]}).runs()
    assert {run.method for run in runs} == {"baseline", "teacher_icl", "cd", "cd_lora", "cd_bitfit"}
    runs = read_profile("smoke", {"support_sizes": [0], "pool": "support"}).runs()
    assert {run.method for run in runs} == {"baseline", "teacher_icl"}


def test_drawn_label_words_are_a_seeds_own_for_every_method_and_its_teacher():
    runs = read_profile("smoke", {"label_words": "drawn", "seeds": [0, 1]}).runs()
    for seed in (0, 1):
        of_seed = [run for run in runs if run.seed == seed]
        assert {run.method for run in of_seed} == set(OF_SMOKE)
        words = {run.task.label_words for run in of_seed}
        words |= {run.distillation.labelling.task.label_words for run in of_seed if run.distillation}
        assert words == {draw_label_words(seed)}


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (4, 4), (192, 8)])
def test_workers_are_as_many_as_the_cores_where_that_is_asked_for(cores, workers, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: cores)
    assert read_profile("smoke", {"workers": "auto"}).workers == workers


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 3},
        {"isolate": True},
        {"cluster": "tcp://somewhere:8786", "worker_memory": 8, "run_timeout": 60},
        {"padding_free": True, "fused": True},
        {"teacher_memory": "streamed", "queries_a_pass": 4},
        {"accumulate": 4},
        {"optimizer_in_backward": True},
    ],
)
def test_how_runs_are_computed_renames_none(changes):
    assert renamed(changes) == set()


def test_how_a_step_is_computed_reaches_every_trained_run():
    trained = read_profile("smoke", {"padding_free": True, "fused": True}).runs(TRAINED)
    assert {(run.training.padding_free, run.training.fused) for run in trained} == {(True, True)}


def test_frozen_weights_in_bfloat16_rename_only_what_leaves_weights_frozen():
    autocast = {"training_dtype": "bfloat16"}
    plain, halved = (read_profile("smoke", autocast | changes).runs() for changes in ({}, {"frozen_dtype": "bfloat16"}))
    other = {one.method for one, run in zip(plain, halved, strict=True) if key(one) != key(run)}
    assert other == {"pbft_lora", "pbft_bitfit", "cd_lora", "cd_bitfit"}


OWN = "Review: {review}\nTopic:"
THREE = {"sport": "Ball", "music": "Song", "food": "Bread"}
TOPICS = {"pattern": OWN, "label_words": THREE, "in_domain": "reviews", "out_of_domain": ()}


def write_reviews(folder, name="reviews", rows=12):
    """A csv of numbered reviews with a column of topics as the data name them, one of which no class stands for."""
    kinds = ("1", "2", "3", "none")
    lines = [f'"A review, number {i}","{kinds[i % 4]}",{"train" if i < rows // 2 else "test"}' for i in range(rows)]
    (folder / f"{name}.csv").write_text("\n".join(["text,topic,part", *lines]) + "\n")
    columns = {"columns": {"review": "text"}, "label": "topic", "split": "part"}
    return {
        "source": str(folder / f"{name}.csv"),
        **columns,
        "labels": {1: "sport", 2: "music", 3: "food", "none": None},
    }


def of_topics(folder, **changes):
    settings = write_reviews(folder)
    return read_profile("smoke", {**TOPICS, "datasets": {"reviews": settings}, "methods": ["icl"], **changes})


def test_a_task_of_ones_own_is_read_from_a_csv_by_columns_labels_and_split(tmp_path):
    profile = of_topics(tmp_path)
    task = profile.task(0)
    assert (task.pattern, task.classes) == (OWN, ("sport", "music", "food"))
    assert (task.label_words, task.out_of_domain) == (("Ball", "Song", "Bread"), ())
    (dataset,) = task.domains.values()
    found = queries(task, dataset, "train")
    assert [query.answered for query in found[:2]] == [
        "Review: A review, number 0\nTopic: Ball",
        "Review: A review, number 1\nTopic: Song",
    ]
    assert [query.gold for query in found] == [0, 1, 2, 0, 1]
    assert [query.gold for query in queries(task, dataset, "evaluation")] == [2, 0, 1, 2]
    assert {query.options for query in found} == {("Ball", "Song", "Bread")}


def test_domains_are_named_by_role_and_by_set_where_there_are_several(tmp_path):
    assert of_topics(tmp_path).domains == {"in_domain": "in domain"}
    assert read_profile("smoke").domains == {"in_domain": "in domain", "out_of_domain": "out of domain"}
    several = read_profile("smoke", {"out_of_domain": ["swaps", "pairs"]})
    assert list(several.domains) == list(several.task(0).domains) == ["in_domain", "out_of_domain", "out_of_domain_2"]
    titles = several.domains
    assert "swaps" in titles["out_of_domain"] and "pairs" in titles["out_of_domain_2"]
    assert [one.name for one in several.task(0).out_of_domain] == ["swaps", "pairs"]


def test_a_dataset_of_ones_own_lies_where_the_others_do_if_it_does_not_say(tmp_path):
    profile = read_profile("smoke", {"data": str(tmp_path), "datasets": {"pairs": {}}})
    assert profile.dataset("pairs").source == str(tmp_path)


def test_classes_are_those_of_the_label_words_in_their_order():
    assert read_profile("smoke").classes == ("entailment", "non-entailment")
    turned = read_profile("smoke", {"label_words": {"non-entailment": "No", "entailment": "Yes"}})
    assert turned.classes == ("non-entailment", "entailment")
    assert turned.task(0).label_words == ("No", "Yes")


def test_a_profile_of_ones_own_task_reads_the_same_from_its_content(tmp_path):
    profile = of_topics(tmp_path, out_of_domain=["reviews"])
    assert read_profile(profile.model_dump(mode="json")) == profile
    assert profile.changed({"kl_weight": 0.25}).task(0) == profile.task(0)


def test_labels_that_are_booleans_in_the_data_keep_their_classes(tmp_path):
    lines = [{"review": f"Review {i}", "label": i % 2 == 0, "seen": True} for i in range(4)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = {"source": str(tmp_path), "labels": {True: "good", False: "bad"}, "where": {"seen": True}}
    words = {"pattern": OWN, "label_words": {"good": "Ball", "bad": "Song"}, "datasets": {"reviews": own}}
    profile = read_profile("smoke", {**words, "in_domain": "reviews", "out_of_domain": []})
    for one in (profile, profile.changed({"kl_weight": 0.25})):
        assert [query.gold for query in queries(one.task(0), one.task(0).in_domain, "train")] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pattern": "{review} Topic: "}, r"pattern: '\{review\} Topic: ' ends in a space"),
        ({"pattern": "{review}\n"}, r"pattern: '\{review\}\\n' ends in"),
        ({"pattern": "{review"}, r"pattern: '\{review'.*brace"),
        ({"pattern": "{} {review}"}, r"pattern: '\{\} \{review\}' needs the name of a column"),
        ({"pattern": "{0}"}, r"pattern: '\{0\}' needs the name of a column"),
        ({"pattern": "review"}, rf"pattern: 'review' .*braces.*{KNOWN}"),
        ({"label_words": None}, r"label_words: .*a word for each class"),
        ({"label_words": {**THREE, "food": "Ball"}}, r"label_words: \['Ball', 'Song', 'Ball'\].*differ"),
        ({"label_words": {**THREE, "food": "Bread "}}, r"label_words: .*'Bread '.*space"),
        ({"label_words": {**THREE, "food": " Bread"}}, r"label_words: .*' Bread'.*space"),
        ({"label_words": {**THREE, "food": ""}}, r"label_words: .*''"),
        ({"label_words": {"sport": "Ball"}}, r"label_words: .*'Ball'.*two"),
        ({"label_words": {"sport": "Ball", "music": "Song"}}, r"datasets\.reviews\.labels: food.*sport, music"),
        ({"label_words": ["Ball", "Song", "Bread"]}, r"label_words: \['Ball', 'Song', 'Bread'\].*entailment"),
        ({"label_words": {True: "Ball", "music": "Song"}}, r"label_words: .*True: 'Ball'.*booleans.*quotes"),
        ({"label_words": {"sport": True, "music": False, "food": "Bread"}}, r"label_words: .*True.*booleans.*quotes"),
        ({"pool_shares": [0.5, 0.5]}, r"pool_shares: \[0\.5, 0\.5\] must be 3 shares"),
        ({"datasets": {"reviews": {"labls": {}}}}, r"datasets\.reviews: 'labls' .*'labels\'"),
        (
            {"datasets": {"reviews": {"labels": {"1": "sports"}}}},
            r"datasets\.reviews\.labels: sports.*sport, music",
        ),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_a_bad_task_is_refused_with_key_value_and_what_is_allowed(tmp_path, changes, words):
    with pytest.raises(StudyError, match=words) as caught:
        of_topics(tmp_path, **changes)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pattern": "{reviews} Topic:"}, r"line 2: .*'reviews'.*text, topic, part"),
        ({"datasets.labels": {"1": "sport", "2": "music", "3": "food"}}, r"line 5, topic: 'none'.*1, 2, 3"),
        ({"datasets.label": "topics"}, r"line 2: .*'topics'.*text, topic, part"),
        ({"datasets.train": ["training"]}, r"no train split.*'test', 'train'.*'training'"),
        ({"datasets.where": {"text": "never"}}, r"data: reviews .*no row"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_what_does_not_fit_the_data_is_refused_where_they_are_read(tmp_path, changes, words):
    settings = write_reviews(tmp_path)
    settings |= {key.partition(".")[2]: value for key, value in changes.items() if key.startswith("datasets.")}
    pattern = {key: value for key, value in changes.items() if key == "pattern"}
    task = read_profile("smoke", {**TOPICS, "datasets": {"reviews": settings}, **pattern}).task(0)
    with pytest.raises(StudyError, match=words):
        queries(task, task.in_domain, "train")


def test_rows_that_are_too_long_are_skipped_alike_by_every_variant():
    skipping = read_profile("smoke", {"too_long": "skip"})
    assert skipping.too_long == max(skipping.support_sizes) == 4
    assert skipping.changed({"support_sizes": [1]}).task(0) == skipping.task(0)
    assert skipping.task(0) == read_profile("smoke", {"too_long": 4}).task(0) != read_profile("smoke").task(0)
    assert renamed({"too_long": "error"}) == set()
