"""Kernels that begin at once: each is a fork of one process, which has imported the libraries of the notebooks.

Where its results are stored, importing takes most of a page's time. Kernels are forked on Linux alone: libraries of
other systems may break in a fork. There Jupyter starts each kernel as a program of its own.
"""

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any
from weakref import WeakSet

from jupyter_client.manager import AsyncKernelManager

LAUNCHER = "ipykernel_launcher"
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["ipykernel.ipkernel", "lib.report.accuracy_and_cost", "lib.report.ablation_figures", "lib.memory.fits"]
)
_MANAGED: WeakSet["Kernels"] = WeakSet()


class Kernel(_FORKS.Process):
    """A forked kernel, with what the manager of kernels asks a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        """Its exit status, None while it lives."""
        return self.exitcode

    def wait(self) -> int | None:
        """Its exit status, when it has ended."""
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.exitcode is None:
            os.kill(self.pid, number)


class Kernels(AsyncKernelManager):
    """Manages one kernel, which is forked where it can be."""

    async def _async_launch_kernel(self, kernel_cmd: list[str], **how: Any) -> None:  # noqa: ANN401 - as its parent's
        _MANAGED.add(self)
        if sys.platform != "linux" or LAUNCHER not in kernel_cmd or kernel_cmd[0] != sys.executable:
            return await super()._async_launch_kernel(kernel_cmd, **how)
        words = kernel_cmd[kernel_cmd.index(LAUNCHER) + 1 :]
        kernel = Kernel(target=_run, args=(words, dict(how["env"]), how.get("cwd") or Path.cwd()))
        kernel.start()
        self.provisioner.process = kernel
        self.provisioner.pid = self.provisioner.pgid = kernel.pid
        self._reconcile_connection_info(self.provisioner.connection_info)


def end_kernels() -> None:
    """Kill the kernels of this process, which an interrupt does not reach."""
    for process in [manager.provisioner.process for manager in _MANAGED if manager.provisioner]:
        if process:
            process.kill()


def _run(words: list[str], environment: dict[str, str], folder: Path) -> None:
    """Be a kernel, as the launcher would be with these words."""
    import matplotlib  # here, since the program that draws pages needs neither
    from ipykernel.kernelapp import IPKernelApp

    threading.Thread(target=end_with_parent, daemon=True).start()
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # the system's, as in any program
    signal.signal(signal.SIGINT, signal.default_int_handler)
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # read from the environment before
    IPKernelApp.launch_instance(argv=words, parent_handle=1)  # a program started it; the thread above watches that one


def end_with_parent() -> None:
    """End this process when its parent is gone, killed even, whatever it is doing."""
    multiprocessing.parent_process().join()
    os._exit(1)
