"""Prometheus with the configuration that the project ships, and what it is asked."""

import json
import math
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy/observability"


class Prometheus:
    """Scrapes every second; `targets` are the addresses in the place of those that the shipped configuration names."""

    def __init__(self, folder, port, targets):
        config = (SHIPPED / "prometheus.yaml").read_text()
        for address, target in zip(re.findall(r"127\.0\.0\.1:\d+", config.split("scrape_configs:")[1]), targets, strict=True):
            config = config.replace(f'"{address}"', f'"{target}"')
        config = config.replace("15s", "1s").replace("- alerts.yaml", f"- {SHIPPED / 'alerts.yaml'}")
        folder.mkdir()
        (folder / "prometheus.yaml").write_text(config)
        subprocess.run(["promtool", "check", "config", folder / "prometheus.yaml"], check=True, stdout=subprocess.DEVNULL)
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def get(self, path, **query):
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, text):
        """The values of an instant query, without those that are no number."""
        found = self.get("query", query=text)["result"]
        return [v for v in (float(series["value"][1]) for series in found) if not math.isnan(v)]

    def wait_for_targets(self, count, deadline):
        while True:
            try:
                targets = self.get("targets")["activeTargets"]
                if sum(t["health"] == "up" for t in targets) == count:
                    return
                said = [(t["scrapeUrl"], t["health"], t["lastError"]) for t in targets]
            except OSError as error:
                said = error
            assert self.process.poll() is None, f"prometheus ended:\n{self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"not all of {count} targets are up: {said}"
            time.sleep(0.2)

    def close(self):
        self.process.terminate()
        self.process.wait(30)


def dashboard():
    """Every query of the dashboard, as the check of the deployment hands them out."""
    check = ROOT / "deploy/checks/metrics.py"
    out = subprocess.run([sys.executable, check, SHIPPED, ROOT / "deploy/helm/shardfuse", "--queries"], check=True,
                         capture_output=True, text=True).stdout
    queries = [line for line in out.splitlines() if line]
    assert len(queries) > 15, queries
    return queries


# This fleet has no certificates. tests/e2e/metrics.rs asks a fleet that has some.
WITH_TLS = {"shardfuse_certificate_expiry_timestamp_seconds"}


def selectors():
    """Every series that alerts and autoscaling look at."""
    alerts = (SHIPPED / "alerts.yaml").read_text()
    found = set(re.findall(r"shardfuse_\w+(?:\{[^}]*\})?", alerts))
    scaling = (ROOT / "deploy/helm/shardfuse/templates/autoscaling.yaml").read_text()
    found |= set(re.findall(r"\bshardfuse_\w+", scaling))
    assert WITH_TLS <= found and len(found) > 8, found
    return sorted(found - WITH_TLS)


def answered(prometheus, queries, deadline, still_running):
    """Waits until each query had an answer with a number in it, and says how often each had to be asked."""
    open_queries = list(queries)
    while open_queries:
        open_queries = [q for q in open_queries if not prometheus.query(q)]
        if open_queries:
            assert still_running(), f"the merge ended before these had an answer: {open_queries}"
            assert time.monotonic() < deadline, f"no series for {open_queries}"
            time.sleep(0.5)


def rules_are_evaluated(prometheus, deadline):
    """Every rule was evaluated without an error."""
    while True:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        assert len(rules) > 5, rules
        if all(rule["health"] == "ok" for rule in rules):
            return len(rules)
        wrong = [(rule["name"], rule["health"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
        assert time.monotonic() < deadline, wrong
        time.sleep(0.5)


def lint(text):
    """promtool's own rules for names, units and help."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
