"""A server of this machine that stands in for GitHub's."""

import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from lib.tasks import rows


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def github(folder: Path, monkeypatch):
    """Serve the files under `folder / "server"` (OWNER/NAME/COMMIT/...) with nothing downloaded before."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder / "downloads"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=folder / "server")) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(rows, "FILES_OF_GITHUB", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def folder_of(source: str, folder: Path) -> Path:
    """Where that server has the files of `github:OWNER/NAME@COMMIT/FOLDER`."""
    served = folder / "server" / source.removeprefix("github:").replace("@", "/")
    served.mkdir(parents=True, exist_ok=True)
    return served
