"""Sources for the tests of listing: configurations, and a web server that can be made to fail."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from soundstage.config import SoundstageConfig, stage_slice
from soundstage.config.slices import IngestSlice


def slice_for(source: str, **synth: object) -> IngestSlice:
    """What ingestion reads of a configuration with this source."""
    found = stage_slice("ingest", SoundstageConfig.model_validate({"ingest": {"source": source}, "synth": synth}))
    assert isinstance(found, IngestSlice)
    return found


class Server(ThreadingHTTPServer):
    """Serves a folder on a free port of this host, ranges too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failures: Counter[str] = Counter()
        """path -> how many of its next downloads end in status 503"""
        self.served: Counter[str] = Counter()
        """path -> downloads begun"""
        self.serves_ranges = True
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that have enough hang up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(SimpleHTTPRequestHandler):
    server: Server

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(arguments[2].folder))

    def do_GET(self) -> None:
        self.server.served[self.path] += 1
        if self.server.failures[self.path] > 0:
            self.server.failures[self.path] -= 1
            self.send_error(503, "the server is tired")
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if match is None or not self.server.serves_ranges or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        start, end = int(match[1]), min(int(match[2]), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
        self.send_header("Content-Length", str(end - start + 1))
        self.end_headers()
        self.wfile.write(data[start : end + 1])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A running server of `folder`."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
