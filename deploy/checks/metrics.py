"""Every metric that dashboard, alerts, chart and tests ask for stands in metrics.md, with the labels that they use.

metrics.py FOLDER CHART prints the names. With --queries it prints each of the dashboard's queries instead, ready for Prometheus.
"""

import json
import pathlib
import re
import sys

folder, chart = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def queries():
    dashboard = json.loads((folder / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*")


if "--queries" in sys.argv:
    print("\n".join(queries()))
    sys.exit()

known = {}
for line in (folder / "metrics.md").read_text().splitlines():
    if row := re.match(r"\| `(shardfuse_\w+)` \| (\w+)[^|]*\|([^|]*)\|", line):
        known[row[1]] = (row[2], set(re.findall(r"`(\w+)`(?=[ ,]|$)", re.sub(r"\([^)]*\)", "", row[3]))))
histogram = re.compile(r"_(bucket|sum|count)$")
used, problems = set(), []
texts = {p.name: p.read_text() for p in folder.iterdir() if p.suffix == ".yaml"}
texts["dashboard.json"] = "\n".join(queries())
texts["autoscaling.yaml"] = (chart / "templates/autoscaling.yaml").read_text().replace("\\", "")
for file, text in texts.items():
    for name, labels in re.findall(r"\b(shardfuse_\w+)(?:\{([^}]*)\})?", text):
        base = histogram.sub("", name)
        if known.get(base, ("",))[0] != "histogram":
            base = name
        if base not in known:
            problems.append(f"{file}: {name} is not in metrics.md")
            continue
        used.add(base)
        own = {"instance", "job", "pod", "namespace", "le", "role"}
        for label in re.findall(r"(\w+)\s*=~?", labels):
            if label not in known[base][1] | own:
                problems.append(f"{file}: {name} has no label {label} in metrics.md")
    if "shardfuse_" not in text and file == "dashboard.json":
        problems.append("the dashboard asks for nothing")
for name, (kind, _) in known.items():
    if (kind == "counter") != name.endswith("_total"):
        problems.append(f"metrics.md: {name} is a {kind}")
runbook = (folder.resolve().parent.parent / "docs/runbook.md").read_text()
sections = {title.lower() for title in re.findall(r"^## (\w+)$", runbook, re.M)}
alerts = re.findall(r"- alert: (\w+)", texts["alerts.yaml"])
links = re.findall(r"runbook_url: \S+/docs/runbook\.md#(\w+)$", texts["alerts.yaml"], re.M)
problems += [f"alerts.yaml: the link to #{link} has no section in docs/runbook.md" for link in links if link not in sections]
problems += [f"alerts.yaml: {alert} has no link to its section" for alert in alerts if alert.lower() not in links]
problems += [f"docs/runbook.md: {section} is no alert" for section in sections - {alert.lower() for alert in alerts}]
for problem in problems:
    print(f"error: {problem}", file=sys.stderr)
print(f"metrics: {len(known)} named, {len(used)} used, {len(problems)} problems")
sys.exit(1 if problems or not used else 0)
