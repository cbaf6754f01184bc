"""A receiver of OTLP over gRPC, with OpenTelemetry's own stubs, that keeps the spans which it is sent."""

from concurrent import futures
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Span:
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict
    # Which process sent it: by its own word (OTEL_RESOURCE_ATTRIBUTES), and by its connection.
    instance: str
    peer: str


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self):
        self.spans = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Export(self, request, context):
        for resource in request.resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
                    self.spans.append(Span(
                        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), attributes,
                        about.get("service.instance.id", ""), context.peer(),
                    ))
        return trace_service_pb2.ExportTraceServiceResponse()

    def close(self):
        self.server.stop(1)


def one_trace(spans, merge, tasks, workers):
    """A merge is one trace: its span in the coordinator, its tasks' in the workers, all below it."""
    mine = [s for s in spans if s.attributes.get("merge", "").startswith(merge) or s.name == "merge"]
    merges = [s for s in mine if s.name == "merge"]
    assert len(merges) == 1, f"{len(merges)} spans of merges, expected 1: {merges}"
    root = merges[0]
    assert root.instance == "coordinator" and not root.parent, root
    assert root.attributes["merge"] == merge, root
    done = [s for s in mine if s.name == "task"]
    assert len({s.attributes["task"] for s in done}) == tasks, f"spans of {len(done)} tasks, expected {tasks}"
    for span in done:
        assert span.trace == root.trace, f"another trace than the merge's: {span}"
        assert span.parent == root.id, f"not below the merge: {span}"
    assert {s.instance for s in done} == set(workers), {s.instance for s in done}
    assert len({s.peer for s in mine}) == 1 + len(workers), "spans of fewer processes than there are"
    print(f"one trace {root.trace}: the merge in the coordinator, {len(done)} tasks in {len(workers)} workers")
