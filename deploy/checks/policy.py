"""What schemas do not say: policy.py FILE... holds rendered manifests against the rules that the deployment promises.

Every pod is restricted (non-root, read-only root, no capabilities, no privilege, seccomp), has no rights on the API, asks for as
much memory as it may use and at least as much as --memory, and ends after its --grace. A merge's Job answers exit codes as
docs/cli.md defines them. Enum values are checked too, which the schemas at hand leave open.
"""

import re
import sys

import yaml

UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
ENUMS = {
    "restartPolicy": {"Never", "Always", "OnFailure"},
    "completionMode": {"Indexed", "NonIndexed"},
    "podReplacementPolicy": {"Failed", "TerminatingOrFailed"},
    "terminationMessagePolicy": {"File", "FallbackToLogsOnError"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "whenUnsatisfiable": {"ScheduleAnyway", "DoNotSchedule"},
    "concurrencyPolicy": {"Allow", "Forbid", "Replace"},
    "unhealthyPodEvictionPolicy": {"AlwaysAllow", "IfHealthyBudget"},
    "action": {"FailJob", "FailIndex", "Ignore", "Count"},
}
problems = []


def size(text):
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * UNITS[unit]


def flag(container, name):
    for arg in container.get("args") or []:
        if arg.startswith(f"--{name}="):
            return arg.split("=", 1)[1]
    return None


def need(where, holds, what):
    if not holds:
        problems.append(f"{where}: {what}")


def enums(where, node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ENUMS and isinstance(value, str):
                need(where, value in ENUMS[key], f"{key} is {value}")
            enums(where, value)
    elif isinstance(node, list):
        for value in node:
            enums(where, value)


def pod(where, spec):
    security = spec.get("securityContext") or {}
    need(where, security.get("runAsNonRoot") is True, "runAsNonRoot is not set")
    need(where, security.get("runAsUser") == 65532, "runs as another user than 65532")
    need(where, (security.get("seccompProfile") or {}).get("type") == "RuntimeDefault", "no seccomp profile")
    need(where, spec.get("automountServiceAccountToken") is False, "mounts a token for the API")
    need(where, spec.get("enableServiceLinks") is False, "variables of other services leak into it")
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        need(where, not spec.get(name), f"{name} is set")
    for volume in spec.get("volumes") or []:
        need(where, "hostPath" not in volume, f"volume {volume['name']} is a folder of the node")
    for container in spec["containers"]:
        here = f"{where}/{container['name']}"
        security = container.get("securityContext") or {}
        need(here, security.get("allowPrivilegeEscalation") is False, "may gain privileges")
        need(here, security.get("readOnlyRootFilesystem") is True, "its root can be written")
        need(here, (security.get("capabilities") or {}).get("drop") == ["ALL"], "keeps capabilities")
        need(here, not security.get("privileged"), "is privileged")
        need(here, container.get("terminationMessagePolicy") == "FallbackToLogsOnError", "its error is not in the pod's status")
        resources = container.get("resources") or {}
        limit = (resources.get("limits") or {}).get("memory")
        if memory := flag(container, "memory"):
            need(here, limit == (resources.get("requests") or {}).get("memory"), "asks for less memory than it may use")
            need(here, size(limit) >= 1.25 * size(memory), f"--memory={memory} does not fit into {limit}")
        if grace := flag(container, "grace"):
            seconds = int(grace.removesuffix("s"))
            need(here, spec.get("terminationGracePeriodSeconds", 30) > seconds, f"is killed before --grace={grace} is over")


def job(where, spec):
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    answers = {}
    for rule in rules:
        for code in (rule.get("onExitCodes") or {}).get("values") or []:
            answers.setdefault(code, rule["action"])
            need(where, rule["onExitCodes"]["operator"] == "In", "an exit code's rule is turned round")
            names = [c["name"] for c in spec["template"]["spec"]["containers"]]
            need(where, rule["onExitCodes"].get("containerName") in names, "a rule is about a container that is not there")
        for condition in rule.get("onPodConditions") or []:
            answers.setdefault(condition["type"], rule["action"])
    if rules:
        need(where, spec["template"]["spec"]["restartPolicy"] == "Never", "a podFailurePolicy takes restartPolicy Never")
        for code in (1, 2, 3):
            need(where, answers.get(code) == "FailJob", f"exit code {code} does not fail the Job")
        need(where, answers.get(5, "Count") == "Count", "exit code 5 is not counted and tried again")
        need(where, answers.get("DisruptionTarget") == "Ignore", "a disruption counts as a failure")
    if spec.get("completionMode") != "Indexed":
        return
    need(where, answers.get(4) == "Ignore", "exit code 4 is not ignored")
    need(where, 0 not in answers, "a rule is about success")
    need(where, spec["completions"] == spec["parallelism"], "completions and parallelism differ")
    need(where, spec.get("successPolicy") == {"rules": [{"succeededIndexes": "0"}]}, "success is not that of index 0")
    need(where, isinstance(spec.get("backoffLimitPerIndex"), int), "no backoffLimitPerIndex")
    need(where, spec.get("podReplacementPolicy") == "Failed", "two pods of one index at a time")
    template = spec["template"]["spec"]
    args = template["containers"][0]["args"]
    need(where, args[0] == "job", "does not run `shardfuse job`")
    need(where, f"--workers={spec['completions']}" in args, "--workers and completions differ")


def jobs(document):
    """Every Job's spec in a document, with what it is called."""
    kind, name = document["kind"], document["metadata"]["name"]
    if kind == "Job":
        yield f"Job/{name}", document["spec"]
    elif kind == "CronJob":
        yield f"CronJob/{name}", document["spec"]["jobTemplate"]["spec"]
    elif kind == "JobSet":
        for replicated in document["spec"]["replicatedJobs"]:
            yield f"JobSet/{name}/{replicated['name']}", replicated["template"]["spec"]


def main():
    count = 0
    for file in sys.argv[1:]:
        documents = [d for d in yaml.safe_load_all(open(file)) if d]
        services = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Service"}
        for document in documents:
            where = f"{file}: {document['kind']}/{document['metadata']['name']}"
            enums(where, document)
            need(where, document["kind"] not in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"), "gives rights on the API")
            if document["kind"] == "Deployment":
                count += 1
                pod(where, document["spec"]["template"]["spec"])
            for name, spec in jobs(document):
                count += 1
                here = f"{file}: {name}"
                pod(here, spec["template"]["spec"])
                job(here, spec)
                subdomain = spec["template"]["spec"].get("subdomain")
                if document["kind"] == "Job" and spec.get("completionMode") == "Indexed":
                    service = services.get(subdomain) or {}
                    need(here, service.get("clusterIP") == "None", f"no headless Service {subdomain}")
                    need(here, service.get("publishNotReadyAddresses") is True, f"Service {subdomain} hides pods that are not ready")
                    coordinator = flag(spec["template"]["spec"]["containers"][0], "coordinator") or ""
                    name = document["metadata"]["name"]
                    need(here, f"//{name}-0.{subdomain}:7070" in coordinator, f"--coordinator={coordinator} is not index 0")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"policy: {count} pod templates, {len(problems)} problems")
    sys.exit(1 if problems or not count else 0)


main()
