"""Drives merges through shardfuse.v1.Merges with stubs generated from the .proto files.

    drive.py BINARY FOLDER GRPCURL
"""

import filecmp
import json
import pathlib
import subprocess
import sys

import grpc
from fleet import PATIENCE, ROOT, Fleet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from shardfuse.v1 import merges_pb2, merges_pb2_grpc, spec_pb2, work_pb2, work_pb2_grpc

BINARY, WORK, GRPCURL = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
BASE, LORA = (ROOT / "examples" / name for name in ("tiny-llama", "lora-dialogue"))
ENDED = {merges_pb2.MERGE_STATE_DONE, merges_pb2.MERGE_STATE_FAILED, merges_pb2.MERGE_STATE_CANCELLED}


def spec(name, **more):
    output = (WORK / "outputs" / name).as_uri()
    options = [spec_pb2.SpecOption(name="part_size", value="64KiB")]
    return spec_pb2.MergeSpec(
        base=BASE.as_uri(), lora=[spec_pb2.Lora(path=LORA.as_uri())], output=output, options=options, **more
    )


def refusal(call):
    """The status code of a call that must fail, and the Failure in its details."""
    try:
        call()
    except grpc.RpcError as e:
        details = dict(e.trailing_metadata() or ()).get("grpc-status-details-bin")
        return e.code(), merges_pb2.Failure.FromString(details) if details else None
    raise AssertionError("the call was not refused")


def follow(merges, merge_id):
    """Every state of a merge until its last."""
    seen = [r.merge for r in merges.Watch(merges_pb2.WatchRequest(id=merge_id), timeout=PATIENCE)]
    assert seen, "a watch says at least how the merge stands"
    for before, after in zip(seen, seen[1:]):
        assert before.state <= after.state or after.state in ENDED, (before.state, after.state)
    assert seen[-1].state in ENDED, seen[-1]
    return seen[-1]


def a_merge_end_to_end(fleet, merges):
    planned = merges.Plan(merges_pb2.PlanRequest(spec=spec("one")))
    assert len(planned.plan) == 64 and json.loads(planned.report_json)["plan"] == planned.plan
    assert not (WORK / "outputs" / "one").exists(), "a plan writes nothing"

    submitted = merges.Submit(merges_pb2.SubmitRequest(spec=spec("one")))
    assert not submitted.known and submitted.merge.id
    again = merges.Submit(merges_pb2.SubmitRequest(spec=spec("one")))
    assert again.known and again.merge.id == submitted.merge.id, "the same request is the same merge"

    last = follow(merges, submitted.merge.id)
    assert last.state == merges_pb2.MERGE_STATE_DONE, last
    assert last.plan == planned.plan
    assert last.progress.bytes_done == last.progress.bytes_total > 0
    assert last.progress.parts_new > 1, last.progress
    got = merges.Get(merges_pb2.GetRequest(id=last.id)).merge
    assert (got.state, got.plan, got.spec.output) == (last.state, last.plan, last.spec.output)
    assert last.id in [m.id for m in merges.List(merges_pb2.ListRequest()).merges]
    done = merges.Submit(merges_pb2.SubmitRequest(spec=spec("one")))
    assert done.known and done.merge.state == merges_pb2.MERGE_STATE_DONE

    # The same bytes as the merge on one machine.
    alone, output = WORK / "alone", WORK / "outputs" / "one"
    fleet.run("merge", "--base", BASE, "--lora", LORA, "--output", alone, "--part-size", "64KiB", "--quiet")
    fleet.run("verify", output, "--sample", "8", "--quiet")
    names = sorted(p.name for p in alone.glob("*") if p.is_file() and p.name != "shardfuse.json")
    assert any(n.endswith(".safetensors") for n in names)
    match, mismatch, errors = filecmp.cmpfiles(alone, output, names, shallow=False)
    assert sorted(match) == names, (mismatch, errors)
    print(f"a merge of {last.progress.bytes_total} bytes in {last.progress.parts_new} parts: the bytes of one machine")


def refusals(merges):
    code, failure = refusal(lambda: merges.Get(merges_pb2.GetRequest(id="nobody")))
    assert code == grpc.StatusCode.NOT_FOUND, code
    code, failure = refusal(lambda: merges.Submit(merges_pb2.SubmitRequest()))
    assert code == grpc.StatusCode.INVALID_ARGUMENT, code
    outside = spec("two")
    outside.base = "file:///etc"
    code, failure = refusal(lambda: merges.Submit(merges_pb2.SubmitRequest(spec=outside)))
    assert code == grpc.StatusCode.PERMISSION_DENIED, code
    assert failure and "/etc" in failure.message and failure.kind, failure
    print("refusals carry a Failure:", failure.kind)


def roles(fleet, channel):
    hello = work_pb2.FromWorker(hello=work_pb2.Hello(protocol_version=1, worker_id=7, device_class="cpu", slots=1))
    session = work_pb2_grpc.WorkStub(channel).Session(iter([hello]))
    code, _ = refusal(lambda: next(session))
    assert code == grpc.StatusCode.PERMISSION_DENIED, code
    with fleet.channel("worker") as worker:
        merges = merges_pb2_grpc.MergesStub(worker)
        code, _ = refusal(lambda: merges.List(merges_pb2.ListRequest()))
        assert code == grpc.StatusCode.PERMISSION_DENIED, code
    print("a submitter takes no tasks, a worker submits nothing")


def cancelling(merges):
    """Without a worker a merge waits, and can be cancelled."""
    waiting = merges.Submit(merges_pb2.SubmitRequest(spec=spec("never"), priority=3)).merge
    watching = merges.Watch(merges_pb2.WatchRequest(id=waiting.id), timeout=PATIENCE)
    assert next(watching).merge.priority == 3
    merges.Cancel(merges_pb2.CancelRequest(id=waiting.id, discard=True))
    last = [r.merge for r in watching][-1]
    assert last.state == merges_pb2.MERGE_STATE_CANCELLED, last
    assert not (WORK / "outputs" / "never").exists(), "what was discarded is gone"
    print("a merge is cancelled and discarded")


def health(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "shardfuse.v1.Merges", "shardfuse.v1.Work"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, service
    print("health: serving")


def reflection(fleet, channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"shardfuse.v1.Merges", "shardfuse.v1.Work", "grpc.health.v1.Health"} <= services, services
    merges = DescriptorPool(database).FindServiceByName("shardfuse.v1.Merges")
    assert {m.name for m in merges.methods} == {"Plan", "Submit", "Get", "List", "Watch", "Cancel", "Retry"}
    tls = ["-cacert", fleet.tls / "ca.pem", "-cert", fleet.tls / "submitter.pem", "-key", fleet.tls / "submitter.key"]
    command = [GRPCURL, *map(str, tls), f"localhost:{fleet.port}"]
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=True).stdout.split()
    assert "shardfuse.v1.Merges" in listed, listed
    answer = subprocess.run(
        [*command, "shardfuse.v1.Merges/List"], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(answer)["merges"][-1]["state"] == "MERGE_STATE_DONE", answer
    print("reflection: grpcurl lists", " ".join(listed))


def main():
    fleet = Fleet(BINARY, WORK)
    with fleet.coordinator(), fleet.channel() as channel:
        fleet.wait_until_serving(channel)
        merges = merges_pb2_grpc.MergesStub(channel)
        health(channel)
        with fleet.worker():
            a_merge_end_to_end(fleet, merges)
        refusals(merges)
        roles(fleet, channel)
        reflection(fleet, channel)
        cancelling(merges)


main()
