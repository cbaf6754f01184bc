"""The incident drill: something goes wrong while a person looks at nothing but the status page and the logs as they are by default.
Each incident must be named in both within ten seconds.

    drill.py BINARY FOLDER [INCIDENT...]     processes, disk, credentials; all without one
"""

import os
import re
import subprocess
import sys
import time
import urllib.parse
from contextlib import ExitStack, contextmanager
from pathlib import Path

from browser import Browser
from fleet import Fleet, free_port
from model import make
from revoked import Endpoint
from s3 import S3

WITHIN = 10  # seconds from the incident to its name
PATIENCE = 90  # until the incident is there at all
RATE = "1MiB"
PAGE = "document.querySelector('main').innerText"


class Scene:
    """A fleet that merges slowly, and a browser that looks at its list of merges."""

    def __init__(self, binary, folder, until, places, environment=()):
        self.folder, self.port = folder, free_port()
        # An empty SHARDFUSE_LOG counts as none: the logs are as they are by default.
        self.fleet = Fleet(binary, folder / "fleet", (folder / "state").as_uri(), places, {"SHARDFUSE_LOG": "", "RUST_LOG": "", **dict(environment)},
                           ("--http", f"127.0.0.1:{self.port}"))
        until.callback(self.fleet.close)
        self.browser = Browser(folder / "browser")
        until.callback(self.browser.close)
        for _ in range(2):
            self.fleet.add_worker(more=("--limit-rate", RATE))

    def begin(self, base, lora, output, part_size="1MiB"):
        merge = self.fleet.submit(base, lora, output, part_size)
        self.browser.open(f"http://127.0.0.1:{self.port}/")
        row = f"document.querySelector('tr[data-id=\"{merge}\"]')"
        self.browser.until(f"/^[1-9]/.test({row}?.querySelector('[role=progressbar]')?.getAttribute('aria-valuenow') || '')", "some progress")
        return merge

    def log(self):
        return "".join(path.read_text() for path in sorted((self.folder / "fleet").glob("*.log")))

    def named(self, incident, since, page, log):
        """Waits until both show it, and says after how many seconds each did."""
        seen = {}
        while len(seen) < 2:
            took = time.monotonic() - since
            for where, text, pattern in (("page", lambda: self.browser.js(PAGE), page), ("log", self.log, log)):
                if where not in seen and re.search(pattern, text(), re.S):
                    seen[where] = took
            assert took <= WITHIN + 2, f"{incident}: named in {sorted(seen)} only after {took:.0f} s; the page:\n{self.browser.js(PAGE)}\nthe end of the logs:\n{self.log()[-3000:]}"
            time.sleep(0.1)
        late = {where: took for where, took in seen.items() if took > WITHIN}
        assert not late, f"{incident}: named after {late} s"
        print(f"{incident}: on the page after {seen['page']:.1f} s, in the log after {seen['log']:.1f} s", flush=True)


def processes(binary, folder, until):
    """A worker is killed; then the coordinator is, and started again."""
    base, lora = make(folder / "model")
    scene = Scene(binary, folder, until, [folder.as_uri()])
    merge = scene.begin(base.as_uri(), lora.as_uri(), (folder / "output").as_uri())

    scene.fleet.workers[0].kill()
    scene.named("a worker is killed", time.monotonic(), r"w1 its connection broke.*hint", r"a worker's session broke.*name=.?w1")

    scene.fleet.coordinator.kill()
    scene.named("the coordinator is killed", time.monotonic(), "The coordinator does not answer", "no session with the coordinator")
    scene.fleet.coordinator.start()
    scene.browser.js(f"location.hash = '{merge}'")
    scene.named("the coordinator is started again", time.monotonic(), "the coordinator was started again; the merge goes on", "going on with a merge")


@contextmanager
def small_disk(at, size):
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def full_disk(binary, folder, until):
    """The disk of the output is filled by somebody else in the middle of the merge."""
    base, lora = make(folder / "model")
    disk = until.enter_context(small_disk(folder / "disk", "400m"))
    scene = Scene(binary, folder, until, [folder.as_uri()])
    scene.begin(base.as_uri(), lora.as_uri(), (disk / "output").as_uri())
    with (disk / "another").open("wb") as file:
        try:
            while True:
                file.write(b"x" * (1 << 20))
                file.flush()
        except OSError:
            pass
    scene.named("the disk is full", time.monotonic(), r"no_space|[Nn]o space|no room.*hint", r"[Nn]o space|no room")


def credentials(binary, folder, until, endpoint):
    """The store takes the credentials of the fleet no more."""
    base, lora = make(folder / "model")
    store = S3(endpoint, os.environ["SHARDFUSE_TEST_S3_KEY"], os.environ["SHARDFUSE_TEST_S3_SECRET"])
    store.make_bucket("models")
    for name, place in (("drill/base", base), ("drill/lora", lora)):
        for file in place.iterdir():
            store.put("models", f"{name}/{file.name}", file.read_bytes())
    address = urllib.parse.urlsplit(endpoint)
    way = Endpoint((address.hostname, address.port))
    until.callback(way.close)
    environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{way.port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
                   "AWS_ACCESS_KEY_ID": store.key, "AWS_SECRET_ACCESS_KEY": store.secret}
    scene = Scene(binary, folder, until, ["s3://models", folder.as_uri()], environment)
    scene.begin("s3://models/drill/base", "s3://models/drill/lora", "s3://models/drill/output", "8MiB")
    way.revoke()
    scene.named("the credentials are revoked", time.monotonic(), r"InvalidAccessKeyId|[Pp]ermission|no_access|403.*hint", r"InvalidAccessKeyId|[Pp]ermission|403")


def main():
    binary, work = Path(sys.argv[1]), Path(sys.argv[2])
    incidents = [("processes", processes), ("disk", full_disk)]
    if endpoint := os.environ.get("SHARDFUSE_TEST_S3_ENDPOINT"):
        incidents.append(("credentials", lambda *given: credentials(*given, endpoint)))
    else:
        print("the credentials are not revoked here: SHARDFUSE_TEST_S3_ENDPOINT names no store")
    chosen = sys.argv[3:] or [name for name, _ in incidents]
    for name, incident in (pair for pair in incidents if pair[0] in chosen):
        folder = work / name
        folder.mkdir()
        with ExitStack() as until:
            incident(binary, folder, until)


if __name__ == "__main__":
    main()
