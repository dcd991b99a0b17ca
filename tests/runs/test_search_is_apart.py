"""What a profile's search evaluates and learns from is apart from what it reports, by items and by seeds."""

from dataclasses import replace

import pytest

from lib.errors import StudyError
from lib.methods.examples import evaluation_items, pool_by_domain, support_of
from lib.runs.ablations import VARIANTS
from lib.runs.profile import profile_names, read_profile
from lib.runs.search import candidates, unreported
from lib.tasks.task import IN_DOMAIN
from tests.support.inference_files import write_inference

REPORT_ALL = ["paper", "smoke"]  # every item that there is
SEARCHED = [name for name in profile_names() if name not in REPORT_ALL]
REAL = [name for name in SEARCHED if read_profile(name).data == ".data"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("data")
    write_inference(made)
    return made


def profile_of(name, folder, **changes):
    """A shipped profile; what it reads of .data lies in the folder."""
    return read_profile(name, changes | ({"data": str(folder)} if name in REAL else {}))


def reported_runs(profile):
    """The profile's own and those of all its variants."""
    variants = [change for make, _ in VARIANTS.values() for change in make(profile).values()]
    return [run for one in (profile, *map(profile.changed, variants)) for run in one.runs()]


def searched_runs(profile, **changes):
    here = unreported(profile) | {"seeds": list(profile.search.seeds)} | changes
    tried = [(method, change) for method, several in candidates(profile).items() for change in several]
    return [run for method, change in tried for run in profile.changed(here | change).runs((method,))]


def texts(rows):
    return {row.text for row in rows}


def evaluated(runs, pattern):
    """Texts of all items in all domains, as the pattern has them."""
    tasks = {replace(run.task, pattern=pattern) for run in runs}
    return set().union(*(texts(evaluation_items(task, domain)) for task in tasks for domain in task.domains))


def learnt_from(runs):
    """By pattern, the texts of support sets and pools."""
    found = {}
    for run in runs:
        pool = pool_by_domain(run.distillation.labelling) if run.distillation else []
        found.setdefault(run.task.pattern, set()).update(*map(texts, [support_of(run), *pool]))
    return found


@pytest.mark.parametrize("name", SEARCHED)
def test_a_search_evaluates_and_learns_from_nothing_that_a_profile_of_the_same_data_reports(name, folder):
    profile = profile_of(name, folder)
    others = [profile_of(other, folder) for other in SEARCHED if (other in REAL) == (name in REAL)]
    reported = [run for other in others for run in reported_runs(other)]
    searched = searched_runs(profile)
    learnt = learnt_from(searched)
    assert {run.method for run in searched} >= {"pbft", "cd"}
    for pattern in learnt:
        away = evaluated(reported, pattern)
        own = evaluated([run for run in searched if run.task.pattern == pattern], pattern)
        assert len(own) == profile.search.items
        assert len(away) >= profile.eval_limit
        assert not own & away
        assert not learnt[pattern] & away
        assert not learnt[pattern] & own


@pytest.mark.parametrize("name", SEARCHED)
def test_a_search_draws_support_sets_and_pools_by_seeds_that_no_profile_reports(name, folder):
    reported = {run.seed for other in SEARCHED for run in reported_runs(profile_of(other, folder))}
    assert {run.seed for run in searched_runs(profile_of(name, folder))} == set(profile_of(name, folder).search.seeds)
    assert not reported & set(profile_of(name, folder).search.seeds)


@pytest.mark.parametrize("name", SEARCHED)
def test_without_what_is_reserved_a_search_would_meet_reported_items(name, folder):
    profile = profile_of(name, folder)
    pattern = profile.template
    assert evaluated(searched_runs(profile, reserved=None), pattern) & evaluated(profile.runs(), pattern)


@pytest.mark.parametrize("name", SEARCHED)
def test_a_search_evaluates_in_domain_alone(name, folder):
    assert {tuple(run.task.domains) for run in searched_runs(profile_of(name, folder))} == {(IN_DOMAIN,)}


def test_a_pool_from_the_target_leaves_its_data_to_the_search(folder):
    profile = profile_of(REAL[0], folder, pool="target")
    searched = [run for run in searched_runs(profile) if run.distillation]
    away = evaluated(profile.runs(), profile.template)
    assert not learnt_from(searched)[profile.template] & away
    assert not evaluated(searched, profile.template) & away


@pytest.mark.parametrize("name", REPORT_ALL)
def test_a_profile_that_reports_every_item_has_none_to_search_on(name):
    with pytest.raises(StudyError, match=rf"eval_limit: profile {name} .*number"):
        unreported(read_profile(name))


def test_a_seed_that_is_reported_is_no_seed_of_a_search(folder):
    profile = profile_of("tiny", folder, **{"search.seeds": [100, 3]})
    with pytest.raises(StudyError, match=r"search\.seeds: \[3\] .*\[0, 1, 2,"):
        unreported(profile)
