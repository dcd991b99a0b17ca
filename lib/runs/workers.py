"""Jobs shared out to workers as a graph: one whose worker dies or that takes too long costs itself and no other.

What takes too long is ended by the system: a worker sets an alarm for its own process, which dies by it as by any other
death, so that nobody has to restart a worker while it works. A restart at that moment did not always come to an end.

A job waits for the one that it needs. A job whose worker died is tried again with no other job beside it, and has
failed at the third death. Two commands on one store do not compute a job twice: workers that see the store's folder
claim the job there, and for others the scheduler has one key, which is the same in both commands.
"""

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed import Client, Future, KilledWorker, as_completed, get_worker
from distributed.scheduler import NoWorkerError
from tqdm import tqdm

from lib.errors import StudyError, first_line
from lib.runs.clusters import START_ONE, connected, is_address
from lib.runs.profile import Profile
from lib.runs.provenance import Job, key, origins
from lib.runs.store import Files, Store
from lib.scratch import scratch_folder

Do = Callable[[Job, Path], bool]
DIED = "its process died; was it killed for using too much memory?"
TRIES_ALONE = 2
SECONDS_FOR_A_WORKER = 10
SECONDS_TO_RESTART = 60
NEARLY = 0.9  # of run_timeout: that a run has begun is known here a little later than there
_ONE_AT_A_TIME = threading.Lock()  # a worker may have several threads, and runs share torch's generator


@contextmanager
def workers(profile: Profile, jobs: Sequence[Job]) -> Iterator["Workers"]:
    """What shares jobs out, for as long as the context lasts.

    Raises:
        StudyError: as `lib.runs.clusters.connected`, or a worker lacks the study, a model or data.
    """
    own = profile.cluster is None
    count = min(profile.workers, len(jobs)) if own else profile.workers
    store = Store(profile.folder)
    store.folder.mkdir(parents=True, exist_ok=True)
    with (
        scratch_folder(store.folder) as probe,
        connected(profile.cluster, count, profile.worker_memory, profile.device) as client,
    ):
        shared = own or _looked_over(client, profile.cluster, jobs, probe)
        found = Workers(client, profile, probe if shared else None)
        if client.dashboard_link and not own:
            print(f"Dashboard: {client.dashboard_link}", flush=True)
        yield found


def _looked_over(client: Client, cluster: str, jobs: Sequence[Job], probe: Path) -> bool:
    """Whether all workers see the store.

    Raises:
        StudyError: a worker cannot run the jobs.
    """
    try:
        client.wait_for_workers(1, timeout=SECONDS_FOR_A_WORKER if is_address(cluster) else None)
    except TimeoutError:
        raise StudyError(f"cluster: the scheduler at {cluster} has no worker. {START_ONE}") from None
    needed = {name for job in jobs for name in origins(job)}
    said = client.run(_look, jobs, probe, on_error="return")
    for address, answer in said.items():
        if isinstance(answer, BaseException):
            raise StudyError(f"cluster: worker {address} has not this study's environment: {first_line(answer)}.")
        there, _ = answer
        if lacking := sorted(needed - there):
            raise StudyError(f"cluster: worker {address} lacks {', '.join(lacking)}.")
    return all(sees for _, sees in said.values())


def _look(jobs: Sequence[Job], probe: Path) -> tuple[set[str], bool]:
    """The local data and models of jobs that are there for a worker, and whether it sees the store."""
    return {name for job in jobs for name in origins(job)}, probe.exists()


class Workers:
    """Shares jobs out to the workers of a client."""

    def __init__(self, client: Client, profile: Profile, probe: Path | None) -> None:
        """Begin; the probe is what workers see that share the store's folder, None where some do not."""
        self._client, self._profile, self._probe = client, profile, probe
        self._store, self._rounds, self._used = Store(profile.folder), 0, False
        self._begun: dict[str, float] = {}  # by key, when a worker began with it
        self._topic = f"begun-{client.id}" if profile.run_timeout else None
        if self._topic:
            client.subscribe_topic(self._topic, self._has_begun)

    def __call__(self, do: Do, jobs: Sequence[Job], urgent: Collection[Job] = ()) -> Iterator[tuple[Job, bool | str]]:
        """Do every job and yield each when it is done, with what `do` returned, or why it came to no end.

        Args:
            do: what is done with a job and a store's folder; a function that workers can import.
            jobs: what is done. What others need comes first; of isolated ones, what stands first.
            urgent: those of them that come before all others.

        Raises:
            StudyError: the scheduler was lost.
        """
        left = sorted(jobs, key=lambda job: job not in urgent)
        while left and not self._profile.isolate:
            died, blocked = [], []
            for job, outcome in self._together(do, left, urgent):
                if outcome is None or isinstance(outcome, KilledWorker):
                    (blocked if outcome is None else died).append(job)
                else:
                    yield job, outcome
            for job in died:
                yield job, self._alone(do, job, TRIES_ALONE)
            left = blocked  # what they need has failed, or is there at last
        for job in left:
            yield job, self._alone(do, job, TRIES_ALONE + 1)

    def _alone(self, do: Do, job: Job, tries: int) -> bool | str:
        """What a job comes to with no other beside it, in a fresh process where runs are isolated."""
        for _ in range(tries):
            if self._profile.isolate and self._used:
                self._restart()
            for _, outcome in self._together(do, [job]):
                self._used = isinstance(outcome, bool)  # what died or was ended has a fresh process in its place
                if not isinstance(outcome, KilledWorker):
                    return outcome
        limit = self._profile.worker_memory
        return f"{DIED} worker_memory is {limit:g} GiB." if limit else DIED

    def _restart(self) -> None:
        """Have a fresh process in place of each worker, none of which works now; what waits for it waits longer."""
        addresses = [*self._client.scheduler_info(n_workers=-1)["workers"]]
        with suppress(TimeoutError):
            self._client.restart_workers(addresses, timeout=SECONDS_TO_RESTART, raise_for_error=False)

    def _together(
        self, do: Do, jobs: Sequence[Job], urgent: Collection[Job] = ()
    ) -> Iterator[tuple[Job, bool | str | KilledWorker | None]]:
        """Each job when it is done, with what it came to; None where what it needs came to nothing."""
        jobs_of = self._submit(do, jobs, urgent)
        for future, result in as_completed(jobs_of, loop=self._client.loop, with_results=True, raise_errors=False):
            yield jobs_of.pop(future), self._outcome(future, result)

    def _submit(self, do: Do, jobs: Sequence[Job], urgent: Collection[Job]) -> dict[Future, Job]:
        """The graph. A key has the round in it, since the scheduler keeps what failed under one for a while."""
        self._rounds += 1
        futures: dict[Job, Future] = {}
        for job in sorted(jobs, key=is_run):
            name = f"{job.kept_in}-{key(job, str(self._store.folder))}-{self._rounds}"
            needed = futures.get(job.needs) or self._carried(job)
            given = (do, job, needed, self._store.folder, self._probe, self._topic, self._profile.run_timeout)
            first = 2 * (job in urgent) + (not is_run(job))
            futures[job] = self._client.submit(work, *given, key=name, priority=first)
        return {future: job for job, future in futures.items()}

    def _carried(self, job: Job) -> Files:
        """The files that a job needs, where its worker cannot read them itself."""
        return self._store.files_of(job.needs) if job.needs and not self._probe else {}

    def _outcome(self, future: Future, result: object) -> bool | str | KilledWorker | None:
        if future.status not in ("finished", "error"):
            if self._client.status != "running":
                lost = "cluster: the scheduler is gone. What was computed is kept; the same command goes on from there."
                raise StudyError(lost)
            return None
        if future.status == "finished":
            return self._kept(result)
        _, error, _ = result
        if isinstance(error, NoWorkerError):
            raise StudyError("cluster: no worker is left, and none came. The same command goes on.") from None
        if not isinstance(error, KilledWorker):
            raise error
        if error.task != future.key:
            return None
        return self._late(future.key) or error

    def _kept(self, result: bool | Files) -> bool:
        """Whether a job was done, with the files that it came to in the store."""
        if isinstance(result, dict):
            self._store.take(result)
        return result is not False

    def _late(self, name: str) -> str | None:
        """Why a job has failed whose worker died, if it was its alarm; None if it was something else."""
        limit = self._profile.run_timeout
        took = time.monotonic() - self._begun.get(name, time.monotonic())
        return f"run_timeout: it took longer than {limit:g} s." if limit and took >= NEARLY * limit else None

    def _has_begun(self, event: tuple[float, str]) -> None:
        self._begun[event[1]] = time.monotonic()


def is_run(job: Job) -> bool:
    """Whether a job is what is wanted in the end, and not what others need."""
    return job.kept_in == "runs"


def work(
    do: Do, job: Job, needed: bool | Files, folder: Path, probe: Path | None, topic: str | None, limit: float | None
) -> bool | Files:
    """On a worker: do a job, and store what it comes to, or return it as files where the store is not to be seen.

    Raises:
        StudyError: the worker came late, and does not see the store as the others do.
    """
    with _ONE_AT_A_TIME, _alarm(limit):
        tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a process that is killed would leave behind
        worker = get_worker()
        if topic:
            worker.log_event(topic, worker.get_current_task())
        if probe is None:
            return _apart(do, job, needed, worker.local_directory)
        if not probe.exists():
            raise StudyError(f"cluster: worker {worker.address} does not see {folder}, as the first ones do.")
        return do(job, folder)


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """End this process after so many seconds, whatever it is doing."""
    signal.setitimer(signal.ITIMER_REAL, seconds or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _apart(do: Do, job: Job, needed: Files, place: str) -> Files:
    with TemporaryDirectory(dir=place) as folder:
        store = Store(Path(folder))
        store.take(needed)
        do(job, store.folder)
        return store.files_beside(needed)
