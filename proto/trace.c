#include "proto/trace.h"

#include <stdlib.h>

#include "base/check.h"
#include "trace.pb-c.h"

/* Perfetto orders the packets of a sequence, which is one writer; a file of ours has one. */
enum { SEQUENCE = 1 };

/* A trace file is its packets one after the other, each with the tag of field 1 in front of it. So
 * each packet can be written by itself. */
static void write_packet(FILE *out, Perfetto__Protos__TracePacket *packet)
{
    Perfetto__Protos__Trace trace = PERFETTO__PROTOS__TRACE__INIT;
    packet->has_trusted_packet_sequence_id = 1;
    packet->trusted_packet_sequence_id = SEQUENCE;
    trace.n_packet = 1;
    trace.packet = &packet;
    size_t n = perfetto__protos__trace__get_packed_size(&trace);
    uint8_t room[512], *bytes = n <= sizeof room ? room : malloc(n);
    CHECK_MEMORY(bytes, "no memory for a packet of %zu bytes", n);
    perfetto__protos__trace__pack(&trace, bytes);
    fwrite(bytes, 1, n, out);
    if (bytes != room)
        free(bytes);
}

static void write_descriptor(FILE *out, Perfetto__Protos__TrackDescriptor *descriptor)
{
    Perfetto__Protos__TracePacket packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
    descriptor->has_uuid = 1;
    packet.track_descriptor = descriptor;
    write_packet(out, &packet);
}

/* A thread's track has the number `track`; its process's track has that number with the highest bit
 * set. */
void trace_write_track(FILE *out, uint64_t track, int pid, const char *process, const char *thread)
{
    Perfetto__Protos__TrackDescriptor group = PERFETTO__PROTOS__TRACK_DESCRIPTOR__INIT,
                                      own = PERFETTO__PROTOS__TRACK_DESCRIPTOR__INIT;
    Perfetto__Protos__ProcessDescriptor p = PERFETTO__PROTOS__PROCESS_DESCRIPTOR__INIT;
    Perfetto__Protos__ThreadDescriptor t = PERFETTO__PROTOS__THREAD_DESCRIPTOR__INIT;
    p.has_pid = t.has_pid = t.has_tid = 1;
    p.pid = t.pid = pid;
    t.tid = pid;
    p.process_name = (char *)process;
    t.thread_name = (char *)thread;
    group.uuid = track | (uint64_t)1 << 63;
    group.process = &p;
    own.uuid = track;
    own.has_parent_uuid = 1;
    own.parent_uuid = group.uuid;
    own.thread = &t;
    write_descriptor(out, &group);
    write_descriptor(out, &own);
}

static void write_event(FILE *out, int64_t ns, Perfetto__Protos__TrackEvent *event)
{
    Perfetto__Protos__TracePacket packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
    packet.has_timestamp = 1;
    packet.timestamp = (uint64_t)ns;
    packet.track_event = event;
    event->has_type = event->has_track_uuid = 1;
    write_packet(out, &packet);
}

void trace_write_begin(FILE *out, uint64_t track, int64_t ns, const struct trace_slice *slice)
{
    Perfetto__Protos__TrackEvent event = PERFETTO__PROTOS__TRACK_EVENT__INIT;
    Perfetto__Protos__DebugAnnotation number = PERFETTO__PROTOS__DEBUG_ANNOTATION__INIT,
                                      *numbers = &number;
    char *category = (char *)slice->category;
    event.type = PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN;
    event.track_uuid = track;
    event.name = (char *)slice->name;
    event.n_categories = 1;
    event.categories = &category;
    event.n_flow_ids = slice->n_flows;
    event.flow_ids = (uint64_t *)slice->flows;
    event.n_terminating_flow_ids = slice->n_ends;
    event.terminating_flow_ids = (uint64_t *)slice->ends;
    if (slice->number_name) {
        number.name = (char *)slice->number_name;
        number.has_int_value = 1;
        number.int_value = slice->number;
        event.n_debug_annotations = 1;
        event.debug_annotations = &numbers;
    }
    write_event(out, ns, &event);
}

void trace_write_end(FILE *out, uint64_t track, int64_t ns)
{
    Perfetto__Protos__TrackEvent event = PERFETTO__PROTOS__TRACK_EVENT__INIT;
    event.type = PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_SLICE_END;
    event.track_uuid = track;
    write_event(out, ns, &event);
}
