"""same_job.py FILE...: the Indexed Jobs in these manifests agree in everything that decides how a merge ends."""

import sys

import yaml

KEYS = ["completionMode", "successPolicy", "podFailurePolicy", "podReplacementPolicy"]
POD = ["restartPolicy", "securityContext", "automountServiceAccountToken"]
CONTAINER = ["name", "securityContext", "terminationMessagePolicy", "livenessProbe", "ports"]


def essence(spec):
    template = spec["template"]["spec"]
    container = template["containers"][0]
    found = {key: spec.get(key) for key in KEYS}
    found |= {f"pod {key}": template.get(key) for key in POD}
    found |= {f"container {key}": container.get(key) for key in CONTAINER}
    found["flags"] = sorted({a.split("=")[0] for a in container["args"]} - {"--device", "--log-format"})
    return found


found = {}
for file in sys.argv[1:]:
    for document in yaml.safe_load_all(open(file)):
        if document and document["kind"] == "Job" and document["spec"].get("completionMode") == "Indexed":
            found[file] = essence(document["spec"])
        if document and document["kind"] == "JobSet":
            found[file] = essence(document["spec"]["replicatedJobs"][0]["template"]["spec"])
if set(found) != set(sys.argv[1:]):
    sys.exit(f"error: no Indexed Job in {sorted(set(sys.argv[1:]) - set(found))}")
first, expected = next(iter(found.items()))
wrong = [f"{file}: {k} is {v[k]}, in {first} {expected[k]}" for file, v in found.items() for k in expected if v[k] != expected[k]]
for line in wrong:
    print(f"error: {line}", file=sys.stderr)
print(f"same job: {len(found)} manifests, {len(wrong)} differences")
sys.exit(1 if wrong else 0)
