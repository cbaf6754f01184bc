"""examples.py RENDERED EXAMPLE...: the examples reach the coordinator of the rendered chart, under the names that it has.

RENDERED is the chart in mode service, as release `shardfuse`. For each pod of an example that submits: its labels are let in by the
NetworkPolicy on the coordinator's port, its --coordinator is a Service and port of the chart, its certificate is the Secret that the
chart expects of submitters, its image is the chart's.
"""

import sys
from urllib.parse import urlsplit

import yaml


def documents(file):
    return [d for d in yaml.safe_load_all(open(file)) if d]


def pods(document):
    """The pods that an object makes: labels, containers, volumes."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind == "CronJob":
        template = spec["jobTemplate"]["spec"]["template"]
        yield template["metadata"].get("labels", {}), template["spec"]["containers"], template["spec"].get("volumes", [])
    if kind == "WorkflowTemplate":
        common = spec.get("podMetadata", {}).get("labels", {})
        for template in spec["templates"]:
            labels = common | template.get("metadata", {}).get("labels", {})
            yield labels, [template["container"]], spec.get("volumes", [])


chart = documents(sys.argv[1])
of = lambda kind: [d for d in chart if d["kind"] == kind]  # noqa: E731
services = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in of("Service")}
coordinator = next(d for d in of("Deployment") if d["metadata"]["name"].endswith("-coordinator"))
image = coordinator["spec"]["template"]["spec"]["containers"][0]["image"]
secret = "shardfuse-submitter-tls"


def admitted(labels, port):
    """Whether the policy lets pods of these labels reach the port."""
    for policy in of("NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            if port not in {p["port"] for p in rule.get("ports", [{"port": port}])}:
                continue
            if "from" not in rule:
                return True
            for peer in rule["from"]:
                wanted = peer.get("podSelector", {}).get("matchLabels", {})
                if wanted.items() <= labels.items():
                    return True
    return False


problems, seen = [], 0
for file in sys.argv[2:]:
    for document in documents(file):
        for labels, containers, volumes in pods(document):
            for container in containers:
                seen += 1
                say = lambda text: problems.append(f"{file}: {container['name'] if 'name' in container else 'container'}: {text}")  # noqa: B023,E731
                url = next((a.split("=", 1)[1] for a in container["args"] if a.startswith("--coordinator=")), "")
                place = urlsplit(url)
                if place.port not in services.get(place.hostname, ()):
                    say(f"{url} is no service of the chart, which has {services}")
                if not admitted(labels, place.port):
                    say(f"the NetworkPolicy lets no pod with the labels {labels} reach port {place.port}")
                if secret not in {v.get("secret", {}).get("secretName") for v in volumes}:
                    say(f"no volume is the Secret {secret}")
                if container["image"] != image:
                    say(f"the image is {container['image']}, the chart's is {image}")
for problem in problems:
    print(f"error: {problem}", file=sys.stderr)
print(f"chart: {seen} pods of examples, {len(problems)} problems")
sys.exit(1 if problems or not seen else 0)
