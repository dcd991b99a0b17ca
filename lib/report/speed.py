"""Seconds and memory of this study's ways beside those of common libraries, on one model and one data set.

Every measurement has a process of its own, and those of one question take turns, so that what else the machine does
meets all alike. On a CPU seconds are those of the process's threads. Libraries that are not installed are left out.
"""

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.machinery import PathFinder
from typing import Any

import numpy as np
import pandas as pd

from lib.methods.context_distillation import teacher_prompts
from lib.methods.encoder import encoder_of
from lib.methods.records import Run
from lib.models.cost import PhaseMeter, describe
from lib.models.loading import quiet
from lib.paths import FIGURES, ROOT
from lib.report.limit import flops_a_second, weights_a_token
from lib.report.speed_ways import OURS, WAYS, icl_prompts, pool_ids, support_rows
from lib.runs.files import write_csv
from lib.runs.profile import Profile

RECORDS, PEERS = FIGURES / "speed", ROOT / ".peers"
CLOSE = 1e-3  # by which losses may differ, of which rounding is the cause
METHODS = {"ICL": "icl", "PBFT": "pbft", "CD": "cd"}
NEEDS = {"lm-evaluation-harness": "lm_eval", "a loop with TRL's GKD loss": "trl"}
INSTALL = "python -m pip install --no-deps --target .peers -r notebooks/speed_peers.txt"
# What all ways can do alike: a step of the teacher's targets alone, at a constant rate.
ALIKE = {"kl_weight": 1.0, "kl_over": "labels", "calibration": "none", "schedule": "constant", "warmup": 0.0}


def measure(profile: Profile, size: int, repeats: int = 3, questions: Sequence[str] = tuple(WAYS)) -> pd.DataFrame:
    """One row a way: what it costs, in the median, at `size` demonstrations.

    Columns: `seconds`; `peak_gb`, over the process's start, weights included; `ahead`, how many times the study's
    seconds it takes; `over_limit`, its seconds over those of 2 FLOPs a weight and unshared token, 6 in training, at the
    measured rate of a matrix product; `alike`, whether it comes to the study's classes, or losses but for rounding.
    """
    alike = ALIKE | {"methods": [*METHODS.values()], "support_sizes": [size], "seeds": profile.seeds[:1]}
    changed, clock = profile.changed(alike), time.process_time if profile.device == "cpu" else time.perf_counter
    rate = flops_a_second(profile.device, clock)
    rows = [row for question in questions for row in _rows(changed, question, repeats, rate)]
    return pd.DataFrame(rows).assign(model=profile.student, demonstrations=size, **describe(profile.device))


def _rows(profile: Profile, question: str, repeats: int, rate: float) -> Iterator[dict[str, Any]]:
    (run,) = profile.runs((METHODS[question],))
    names = [name for name in WAYS[question] if _is_there(name)]
    found = pd.DataFrame([{"way": name} | _apart(run, question, name) for _ in range(repeats) for name in names])
    costs = found.groupby("way", sort=False)[["seconds", "peak_gb"]].median()
    results = found.groupby("way", sort=False).result.first()
    for name in names:
        seconds, peak = costs.loc[name]
        ours, theirs = results[OURS], results[name]
        yield {
            "question": question,
            "way": name,
            "seconds": seconds,
            "ahead": seconds / costs.seconds[OURS],
            "peak_gb": peak,
            "over_limit": seconds * rate / _flops(run),
            "queries": _queries(run, profile),
            "alike": len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=CLOSE),
            "unshared_tokens": _tokens(run),
        }


def _is_there(name: str) -> bool:
    """Whether a way's library is installed; where not, a line says how it would be."""
    there = name not in NEEDS or PathFinder.find_spec(NEEDS[name], [*sys.path, str(PEERS)]) is not None
    if not there:
        print(f"{name} is left out: {NEEDS[name]} is not installed. {INSTALL}")
    return there


def _apart(run: Run, question: str, name: str) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_measured, run, question, name).result()


def _measured(run: Run, question: str, name: str) -> dict[str, Any]:
    quiet()
    sys.path.append(str(PEERS))
    meter = PhaseMeter(run.device)
    way = WAYS[question][name](run)
    began = time.process_time()
    with meter.phase() as cost:
        result = way()
    on_cpu = run.device == "cpu"
    seconds, peak = (time.process_time() - began, cost.rss) if on_cpu else (cost.seconds, cost.cuda_allocated)
    return {"seconds": seconds, "peak_gb": peak / 1e9, "result": result}


def _tokens(run: Run) -> int:
    """Tokens that must be read once: shared demonstrations once, what is trained on once an epoch."""
    return _scored(run) + _trained(run)


def _scored(run: Run) -> int:
    """By the teacher, by the student of ICL, or by nobody."""
    if run.distillation:
        (asked,) = teacher_prompts(run.needs, encoder_of(run.needs.teacher))
        return asked.tokens
    return 0 if run.training else icl_prompts(run)[0].tokens


def _trained(run: Run) -> int:
    if not run.training:
        return 0
    texts = pool_ids(run) if run.distillation else [row.ids for row in support_rows(run)]
    return run.training.epochs * sum(map(len, texts))


def _flops(run: Run) -> float:
    scoring = run.needs.teacher if run.distillation else run.model
    return 2 * weights_a_token(scoring) * _scored(run) + 6 * weights_a_token(run.model) * _trained(run)


def _queries(run: Run, profile: Profile) -> int:
    """Texts that are answered or trained on."""
    if run.distillation:
        return profile.pool_size
    return run.support_size if run.training else profile.eval_limit


def growth(profile: Profile, sizes: Sequence[int], pools: Sequence[int]) -> pd.DataFrame:
    """One measurement a way of ICL after so many demonstrations, and of CD with so many queries in its pool."""
    by_size = [measure(profile, size, 1, ["ICL"]) for size in sizes]
    by_pool = [measure(profile.changed({"pool_size": pool}), sizes[0], 1, ["CD"]).assign(pool=pool) for pool in pools]
    return pd.concat([*by_size, *by_pool], ignore_index=True)


def write_record(name: str, table: pd.DataFrame, about: str = "") -> None:
    """Keep what was measured for the page, and what is to be said about it."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_csv(RECORDS / f"{name}.csv", table.assign(about=about))


def records() -> dict[str, pd.DataFrame]:
    """By name, what was measured."""
    return {file.stem: pd.read_csv(file, keep_default_na=False) for file in sorted(RECORDS.glob("*.csv"))}
