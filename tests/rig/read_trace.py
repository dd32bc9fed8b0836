#!/usr/bin/env python3
"""Read a trace as Perfetto would. This shares nothing with the program that wrote it: protobuf's wire
format and the field numbers of protos/perfetto/trace/ in Perfetto's repository are written down here
again. Checks what a viewer relies on, and prints what the trace contains as JSON.

    tests/rig/read_trace.py FILE
"""
import collections, json, struct, sys


def fail(text):
    sys.exit(f"{sys.argv[1]}: {text}")


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """{number: [values]} of a message: ints, or bytes."""
    found, at = collections.defaultdict(list), 0
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
            if len(value) != size:
                fail("a message is cut off")
        else:
            fail(f"field {tag >> 3} of wire type {kind}")
        found[tag >> 3].append(value)
    return found


def one(message, number):
    values = message.get(number, [])
    if len(values) != 1:
        fail(f"expected field {number} once, found it {len(values)} times")
    return values[0]


class Slice:
    def __init__(self, event, begin, depth):
        self.name = one(event, 23).decode()
        self.category = one(event, 22).decode()
        self.flows, self.ends = event.get(47, []), event.get(48, [])
        self.begin, self.end, self.depth, self.inside = begin, None, depth, []
        self.numbers = {one(a, 10).decode(): one(a, 4) for a in map(fields, event.get(4, []))}


class Track:
    def __init__(self, pid):
        self.pid, self.slices, self.open, self.last = pid, [], [], 0

    def event(self, event, ns):
        if ns < self.last:
            fail(f"process {self.pid}: time goes back from {self.last} to {ns}")
        self.last = ns
        if one(event, 9) == 1:  # TYPE_SLICE_BEGIN
            slice = Slice(event, ns, len(self.open))
            self.slices.append(slice)
            if self.open:
                self.open[-1].inside.append(slice)
            self.open.append(slice)
        elif one(event, 9) == 2:  # TYPE_SLICE_END
            if not self.open:
                fail(f"process {self.pid}: a slice ends that has not begun")
            self.open.pop().end = ns
        else:
            fail(f"an event of type {one(event, 9)}")


def read(path):
    processes, tracks, groups = {}, {}, {}
    for packet in fields(open(path, "rb").read())[1]:
        packet = fields(packet)
        if one(packet, 10) == 0:
            fail("trusted_packet_sequence_id: expected a number above 0")
        if 60 in packet:  # TrackDescriptor
            track = fields(one(packet, 60))
            uuid = one(track, 1)
            if 3 in track:  # ProcessDescriptor
                process = fields(one(track, 3))
                groups[uuid] = one(process, 1)
                processes[one(process, 1)] = one(process, 6).decode()
            else:
                thread = fields(one(track, 4))
                if groups.get(one(track, 5)) != one(thread, 1):
                    fail(f"track {uuid} is not in its process")
                tracks[uuid] = Track(one(thread, 1))
        else:
            event = fields(one(packet, 11))
            uuid = one(event, 11)
            if uuid not in tracks:
                fail(f"an event on track {uuid}, which nothing describes")
            tracks[uuid].event(event, one(packet, 8))
    for track in tracks.values():
        if track.open:
            fail(f"process {track.pid}: {len(track.open)} slices never end")
    return processes, {t.pid: t for t in tracks.values()}


DEPTH = {"step": 0, "layer": 1}


def check_nesting(pid, slices):
    """Check that steps contain only layers and phases, layers only phases, and phases nothing."""
    for s in slices:
        if s.end < s.begin:
            fail(f"process {pid}: {s.name} ends before it begins")
        if s.category in DEPTH and s.depth != DEPTH[s.category]:
            fail(f"process {pid}: {s.category} {s.name} at depth {s.depth}")
        if s.category not in (*DEPTH, "phase"):
            fail(f"a slice of category {s.category}")
        if s.category == "phase" and s.inside:
            fail(f"process {pid}: {s.inside[0].name} inside the phase {s.name}")


def check_gaps(pid, slices):
    """Check that every nanosecond of a step and of a layer is some phase's, whatever else the machine did.
    Rank 0 computes logits and samples after the layers: only the time right before these may be no phase's."""
    for s in slices:
        if s.category == "phase":
            continue
        end = s.begin
        for x in s.inside:
            if x.begin != end and x.name not in ("logits", "sampling"):
                fail(f"process {pid}: {x.begin - end} ns before {x.name} in {s.name} are no phase's")
            end = x.end
        if end != s.end:
            fail(f"process {pid}: the last {s.end - end} ns of {s.name} are no phase's")


def check_flows(tracks):
    """Check that each arrow goes from a wire out of rank 0 through one compute of a worker to a combine of
    rank 0; return how many there are."""
    out, through, into = {}, {}, {}
    for pid, track in tracks.items():
        for s in track.slices:
            for where, ids in ((out if s.name == "wire out" else through, s.flows), (into, s.ends)):
                for id in ids:
                    if id in where or id == 0:
                        fail(f"arrow {id} is there twice")
                    where[id] = (pid, s)
    if not out.keys() == through.keys() == into.keys():
        fail(f"{len(out)} arrows leave, {len(through)} pass a worker, {len(into)} end")
    for id, (pid, s) in out.items():
        (worker, compute), (home, combine) = through[id], into[id]
        if (s.name, compute.name, combine.name) != ("wire out", "compute", "combine"):
            fail(f"arrow {id}: {s.name}, {compute.name}, {combine.name}")
        if pid != 1 or home != 1 or worker != s.numbers["to rank"] + 1:
            fail(f"arrow {id}: from process {pid} through {worker} to {home}")
        if not s.begin <= compute.begin <= compute.end <= combine.begin:
            fail(f"arrow {id} goes back in time")
    return len(out)


def main():
    processes, tracks = read(sys.argv[1])
    for pid, track in tracks.items():
        check_nesting(pid, track.slices)
        check_gaps(pid, track.slices)
    report = {
        "processes": [processes[pid] for pid in sorted(processes)],
        "arrows": check_flows(tracks),
        "steps": [sum(s.category == "step" for s in tracks[pid].slices) for pid in sorted(tracks)],
        "rows": sum(s.numbers["rows"] for t in tracks.values() for s in t.slices if s.name == "compute"),
    }
    print(json.dumps(report))


main()
