"""Watches a fleet while it merges.

    watch.py BINARY FOLDER
"""

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import page
import prometheus
from browser import Browser
from collector import Collector, one_trace
from fleet import Fleet, free_port
from model import make

PATIENCE = 120  # seconds that a condition may take on a busy machine
SLOW = ("w1", "w2")
RATE = "1MiB"  # they write no faster, so that there is a merge to look at
FAST = "w3"  # joins when all was looked at
# In the environment of every process, and nowhere else.
SECRET = "kept-to-itself-5f0c"


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode(), answer.headers


def no_secret(where, text):
    assert SECRET not in text, f"{where} shows a secret"


def watched(binary, work, until):
    pictures = Path(os.environ.get("SHARDFUSE_SCREENSHOTS") or work / "pictures")
    pictures.mkdir(exist_ok=True)
    base, lora = make(work / "model")
    collector = Collector()
    until.callback(collector.close)
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ACCESS_KEY_ID": SECRET, "HF_TOKEN": SECRET,
    }

    def of(name):
        return {"OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={name}"}

    http = [free_port() for _ in range(3)]
    fleet = Fleet(binary, work / "fleet", (work / "state").as_uri(), [work.as_uri()], environment | of("coordinator"),
                  ("--http", f"127.0.0.1:{http[0]}"))
    until.callback(fleet.close)
    for name, port in zip(SLOW, http[1:]):
        fleet.add_worker(more=("--http", f"127.0.0.1:{port}", "--limit-rate", RATE), environment=of(name))
    watcher = prometheus.Prometheus(work / "prometheus", free_port(), [f"127.0.0.1:{port}" for port in http])
    until.callback(watcher.close)
    watcher.wait_for_targets(3, time.monotonic() + PATIENCE)
    browser = Browser(work / "browser")
    until.callback(browser.close)

    merge = fleet.submit(base.as_uri(), lora.as_uri(), (work / "output").as_uri(), "1MiB")
    deadline = time.monotonic() + PATIENCE
    running = lambda: fleet.get(merge)["state"] not in ("done", "failed", "cancelled")
    url = f"http://127.0.0.1:{http[0]}/"
    shown = page.during_a_merge(browser, url, merge, lora.name)
    print("the status page: merges, filter, workers, throughput; of one: layers, task stream, events, commands")

    queries = prometheus.dashboard()
    prometheus.answered(watcher, queries, deadline, running)
    print(f"Prometheus: each of the dashboard's {len(queries)} queries has series")
    series = prometheus.selectors()
    prometheus.answered(watcher, series, deadline, running)
    print(f"Prometheus: each of the {len(series)} series of alerts and autoscaling is there")
    rules = prometheus.rules_are_evaluated(watcher, deadline)
    print(f"Prometheus: {rules} rules are evaluated")
    for name, port in zip(("coordinator", *SLOW), http):
        text, _ = fetch(f"http://127.0.0.1:{port}/metrics")
        prometheus.lint(text)
        no_secret(f"/metrics of the {name}", text)
    status, headers = fetch(url + "api/status")
    _, page_headers = fetch(url)
    assert "default-src 'none'" in page_headers["Content-Security-Policy"], page_headers
    no_secret("the status page", shown)
    no_secret("/api/status", status)
    page.looks(browser, pictures, "merge")
    browser.open(url + "#")
    page.looks(browser, pictures, "list")
    print("the status page: light and dark, on a laptop, a tablet and a phone")
    page.large_layer_sets(browser, url)
    page.many_merges(browser, url)
    assert running(), "the merge ended before everything was looked at"

    plan(binary, work, base, lora, browser, pictures)
    fleet.add_worker(environment=of(FAST))
    while running():
        assert time.monotonic() < deadline + PATIENCE, fleet.get(merge)
        time.sleep(0.5)
    ended = fleet.get(merge)
    assert ended["state"] == "done", ended
    page.after_the_merge(browser, url, merge)
    print("the status page: the end, nothing asked of others, no complaint in the console")
    while watcher.query("shardfuse_merge_progress_ratio") or watcher.query("shardfuse_tasks"):
        assert time.monotonic() < deadline + 2 * PATIENCE, "the series of an ended merge stay"
        time.sleep(0.5)
    print("Prometheus: the series of the ended merge are gone")

    # Spans that are not sent yet are sent when a process ends in order.
    for process in [*fleet.workers, fleet.coordinator]:
        code = process.end()
        assert code == 0, f"{process.name} ended with {code}"
    one_trace(collector.spans, merge, ended["tasks_total"], (*SLOW, FAST))
    page.without_a_coordinator(browser)


HOSTILE = "<img onerror><script>alert(1)&'"  # a folder's name


def plan(binary, work, base, lora, browser, pictures):
    adapter = work / HOSTILE
    shutil.copytree(lora, adapter)
    file = work / "plan.html"
    subprocess.run([binary, "plan", "--base", base, "--lora", adapter, "--lora", lora, "--html", file, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    page.plan(browser, file, pictures, HOSTILE)
    print("the page of a plan: light and dark, three widths, nothing runs and nothing is asked for")


def main():
    binary, work = Path(sys.argv[1]), Path(sys.argv[2])
    with ExitStack() as until:
        try:
            watched(binary, work, until)
        except BaseException:
            for log in sorted((work / "fleet").glob("*.log")):
                print(f"-- {log.name}\n{log.read_text()[-1500:]}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
