"""inner.py FILE: the Kubernetes objects inside custom ones, as objects of their own for a schema check.

A JobSet's Jobs, and an Argo WorkflowTemplate's containers (as pods).
"""

import sys

import yaml

out = []
for document in yaml.safe_load_all(open(sys.argv[1])):
    meta = {"name": document["metadata"]["name"]}
    if document["kind"] == "JobSet":
        for replicated in document["spec"]["replicatedJobs"]:
            out.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": replicated["template"]["spec"]})
    elif document["kind"] == "WorkflowTemplate":
        for template in document["spec"]["templates"]:
            spec = {
                "securityContext": document["spec"]["securityContext"],
                "volumes": document["spec"]["volumes"],
                "containers": [{"name": "main"} | template["container"]],
            }
            out.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    else:
        out.append(document)
yaml.safe_dump_all(out, sys.stdout)
