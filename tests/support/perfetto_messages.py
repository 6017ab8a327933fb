"""Perfetto's messages as Google's protobuf reads them: an oracle for what we write by hand.

The descriptors are built from the public .proto files' names, numbers and types, of as many fields
as we use. What is in none of them is kept as an unknown field, which the tests look for.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

TYPES = {
    "uint64": Field.TYPE_UINT64,
    "uint32": Field.TYPE_UINT32,
    "int32": Field.TYPE_INT32,
    "fixed64": Field.TYPE_FIXED64,
    "string": Field.TYPE_STRING,
}

MESSAGES = {
    "Trace": "repeated TracePacket packet 1",
    "TracePacket": """
        optional uint64 timestamp 8
        optional uint32 trusted_packet_sequence_id 10
        optional TrackEvent track_event 11
        optional uint32 sequence_flags 13
        optional TrackDescriptor track_descriptor 60
    """,
    "TrackDescriptor": """
        optional uint64 uuid 1
        optional string name 2
        optional ProcessDescriptor process 3
        optional ThreadDescriptor thread 4
        optional uint64 parent_uuid 5
    """,
    "ProcessDescriptor": """
        optional int32 pid 1
        optional string process_name 6
    """,
    "ThreadDescriptor": """
        optional int32 pid 1
        optional int32 tid 2
        optional string thread_name 5
    """,
    "TrackEvent": """
        repeated DebugAnnotation debug_annotations 4
        optional int32 type 9
        optional uint64 track_uuid 11
        repeated string categories 22
        optional string name 23
        repeated fixed64 flow_ids 47
        repeated fixed64 terminating_flow_ids 48
    """,
    "DebugAnnotation": """
        optional uint64 uint_value 3
        optional string string_value 6
        optional string name 10
    """,
}


def trace_class():
    """The class of a whole trace."""
    file = descriptor_pb2.FileDescriptorProto(
        name="perfetto.proto", package="perfetto.protos", syntax="proto2"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in filter(None, map(str.strip, fields.splitlines())):
            label, kind, field, number = line.split()
            made = message.field.add(name=field, number=int(number))
            made.label = Field.LABEL_REPEATED if label == "repeated" else Field.LABEL_OPTIONAL
            if kind in TYPES:
                made.type = TYPES[kind]
            else:
                made.type, made.type_name = Field.TYPE_MESSAGE, f".perfetto.protos.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perfetto.protos.Trace"))
