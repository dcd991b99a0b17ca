"""Clusters of worker processes by dask.distributed: of this machine, of a queueing system, or one that runs already.

No worker of this machine outlives its client: each watches a pipe that the client holds.
"""

import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster

from lib.errors import StudyError, first_line, require_one_of
from lib.scratch import scratch_folder

HERE = "127.0.0.1"
SECONDS_TO_CONNECT = 10
SECONDS_TO_CLOSE = 2
SECONDS_WITHOUT_WORKERS = 300  # after which runs that wait for one end in an error, and do not wait for ever
GIB = 2**30
TALKING = ("dask", "distributed", "cloudpickle", "msgpack")
START_ONE = "Start workers, in this environment, with `dask worker ADDRESS --nthreads 1`."
QUEUES = {
    "htcondor": "HTCondorCluster",
    "lsf": "LSFCluster",
    "oar": "OARCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "slurm": "SLURMCluster",
}
# A worker has one run in hand and no other waiting, so that its death tells of that run alone; it costs no more than it
# must beside the run: no profiler, no memory of its own to manage, and few looks at how it fares.
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.rootish-taskgroup": 2**31,
    "distributed.scheduler.rootish-taskgroup-dependencies": 2**31,
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.no-workers-timeout": f"{SECONDS_WITHOUT_WORKERS}s",
    "distributed.worker.multiprocessing-method": "spawn",  # forks of a process with threads may never begin
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.diagnostics.computations.nframes": 0,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "5s",
}


@contextmanager
def connected(cluster: str | None, workers: int, memory: float | None, device: str) -> Iterator[Client]:
    """A client of a cluster, which ends with it unless it ran before.

    Args:
        cluster: None for this machine, the address of a running scheduler, or a queueing system of `QUEUES`.
        workers: how many, where they are started here.
        memory: GiB that a worker of this machine may take; None for no limit.
        device: `cuda` gives each worker of this machine a card of its own, as far as there are so many.

    Raises:
        StudyError: nobody answers, other versions run there, or a package is missing.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters comes back as a run's failure
    if cluster is None:
        with _of_this_machine(workers, memory, device) as client:
            yield client
    elif is_address(cluster):
        with _closing(_client(cluster)) as client:
            _require_versions(client.get_versions())
            yield client
    else:
        with _queued(cluster, workers) as queue, _closing(_client(queue)) as client:
            yield client


def is_address(cluster: str) -> bool:
    """Whether a cluster is named by where its scheduler is, and not by its queueing system."""
    return "://" in cluster


@contextmanager
def _closing(client: Client) -> Iterator[Client]:
    """A client that is closed at the end, whatever became of its scheduler."""
    try:
        yield client
    finally:
        with suppress(Exception):
            client.close(timeout=SECONDS_TO_CLOSE)


@contextmanager
def _of_this_machine(workers: int, memory: float | None, device: str) -> Iterator[Client]:
    with (
        scratch_folder(Path(tempfile.gettempdir())) as space,
        dask.config.set(SETTINGS | {"temporary-directory": str(space)}),
    ):
        of_all = {"host": HERE, "nthreads": 1, "memory_limit": int((memory or 0) * GIB), "local_directory": str(space)}
        quiet = {"silence_logs": logging.CRITICAL}
        cluster = SpecCluster(
            scheduler={"cls": Scheduler, "options": {"host": HERE, "port": 0, "dashboard_address": f"{HERE}:0"}},
            workers={
                i: {"cls": Nanny, "options": of_all | quiet | {"env": card(i) if device == "cuda" else {}}}
                for i in range(workers)
            },
            **quiet,
        )
        with _ending(cluster), _closing(Client(cluster, set_as_default=False)) as client:
            try:
                yield client
            finally:
                _end_workers(cluster)


def card(worker: int) -> dict[str, str]:
    """What shows a worker one graphics card alone; nothing where there is none."""
    import torch  # here, since it takes seconds, and a machine without cards needs none of it

    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    cards = visible or [str(i) for i in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": cards[worker % len(cards)]} if cards else {}


def _end_workers(cluster: SpecCluster) -> None:
    """End workers at once: what they have finished is stored, and what they have not is lost in any case."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully()  # it starts no other in place of the one that ends now
        if pid := nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def _ending(cluster: SpecCluster) -> Iterator[None]:
    try:
        yield
    finally:
        with suppress(Exception):
            cluster.close(timeout=SECONDS_TO_CLOSE)


def _client(cluster: Any) -> Client:  # noqa: ANN401 - an address, or one of dask's clusters
    try:
        with warnings.catch_warnings(action="ignore"):  # of other versions, which are an error here
            client = Client(cluster, set_as_default=False, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"cluster: nobody answers at {cluster} ({first_line(error)}). Start `dask scheduler` there. {START_ONE}"
        ) from None
    return client


def _require_versions(found: dict[str, Any]) -> None:
    """Raise where what talks to each other, or Python, is of another version elsewhere."""
    here = _versions(found["client"])
    for place, there in {"the scheduler": found["scheduler"], **found["workers"]}.items():
        for package, version in _versions(there).items():
            if version != here[package]:
                raise StudyError(
                    f"cluster: {place} has {package} {version}, and here is {here[package]}. All need one environment."
                )


def _versions(found: dict[str, Any]) -> dict[str, str]:
    packages = {name: str(found["packages"].get(name)) for name in TALKING}
    return {"Python": ".".join(found["packages"]["python"].split(".")[:2]), **packages}


@contextmanager
def _queued(name: str, workers: int) -> Iterator[Any]:
    """A cluster of a queueing system, as dask-jobqueue's own configuration files describe its jobs."""
    require_one_of("cluster", name, [*QUEUES, "the address of a scheduler, such as tcp://host:8786"])
    try:
        import dask_jobqueue
    except ImportError:
        raise StudyError(f"cluster: {name!r} needs dask-jobqueue: `python -m pip install dask-jobqueue`.") from None
    try:
        cluster = getattr(dask_jobqueue, QUEUES[name])()
    except (ValueError, OSError) as error:
        raise StudyError(
            f"cluster: {name!r} needs settings in a file of dask-jobqueue's, such as ~/.config/dask/jobqueue.yaml "
            f"({first_line(error)})."
        ) from None
    with cluster:
        cluster.scale(jobs=workers)
        yield cluster
