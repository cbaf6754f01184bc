"""iam.py FOLDER: the policies of deploy/iam allow what shardfuse asks of a store, and nothing else.

What it asks is in `NEEDS`: the calls of store/src/object, by what the providers name the permission for them.
"""

import json
import pathlib
import sys

import yaml

folder = pathlib.Path(sys.argv[1])
S3 = {
    "inputs": {"s3:GetObject", "s3:ListBucket"},
    # Reads are for the state and for what was completed, deletes for the state and trial objects. An upload is begun, filled and
    # completed with PutObject.
    "outputs": {
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
        "s3:ListBucketMultipartUploads",
    },
}
GOOGLE = {f"storage.objects.{verb}" for verb in ("get", "list", "create", "delete")} | {
    f"storage.multipartUploads.{verb}" for verb in ("create", "abort", "list", "listParts")
}
BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
AZURE = {BLOBS + verb for verb in ("read", "write", "add/action", "delete")}
# Permissions of a bucket, and those of the objects in it.
OF_BUCKETS = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}

problems = []


def same(what, have, want):
    for name in sorted(want - have):
        problems.append(f"{what} lacks {name}")
    for name in sorted(have - want):
        problems.append(f"{what} allows {name}, which nothing asks for")


allowed = {"MODELS": set(), "MERGED": set()}
for statement in json.loads((folder / "aws-policy.json").read_text())["Statement"]:
    for resource in statement["Resource"]:
        bucket = resource.removeprefix("arn:aws:s3:::")
        for action in statement["Action"]:
            if (action in OF_BUCKETS) == bucket.endswith("/*"):
                problems.append(f"aws-policy.json: {action} does not apply to {resource}")
            allowed[bucket.removesuffix("/*")].add(action)
same("aws-policy.json for inputs", allowed["MODELS"], S3["inputs"])
same("aws-policy.json for outputs", allowed["MERGED"], S3["outputs"])
same("google-outputs.yaml", set(yaml.safe_load((folder / "google-outputs.yaml").read_text())["includedPermissions"]), GOOGLE)
same("azure-outputs.json", set(json.loads((folder / "azure-outputs.json").read_text())["DataActions"]), AZURE)
json.loads((folder / "aws-trust.json").read_text())
json.loads((folder / "aws-lifecycle.json").read_text())
readme = (folder / "README.md").read_text()
problems += [f"README.md does not name {p.name}" for p in folder.iterdir() if p.name != "README.md" and p.name not in readme]
for problem in problems:
    print(f"error: {problem}", file=sys.stderr)
print(f"chart: permissions of three clouds, {len(problems)} problems")
sys.exit(1 if problems else 0)
