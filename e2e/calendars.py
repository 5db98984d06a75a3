#!/usr/bin/env python3
"""Exports random Schedules with `belfry schedule export` and compares how others read them: Python's `icalendar` with
`recurring-ical-events`, libical if it is installed, and `belfry schedule import`.

usage: calendars.py BELFRY [CASES] [SEED]

Needs the packages icalendar, recurring-ical-events and tzdata (the host's zones may be older than ours). Each peer reads each
calendar twice: as it is, with zones that the peer knows by name, and with unknown zone names, so that only our VTIMEZONEs tell the
offsets. The expected occurrences are those of `belfry schedule preview`. Prints the differences by class, with the names of the
classes in docs/icalendar.md. Ends with 1 if a difference belongs to no known class.
"""

import ctypes
import datetime
import json
import os
import random
import subprocess
import sys
import tempfile
import zoneinfo
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events

zoneinfo.reset_tzpath([])

UTC = datetime.timezone.utc
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Seoul", "Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago"]
RULES = [
    "FREQ=DAILY",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU",
    "FREQ=MONTHLY;BYDAY=-1FR",
    "FREQ=MONTHLY;BYMONTHDAY=-1",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU",
    "FREQ=HOURLY;INTERVAL=7",
]
FROM, TO = datetime.datetime(2025, 12, 1, tzinfo=UTC), datetime.datetime(2028, 6, 1, tzinfo=UTC)


def schedule(rng, number):
    """Returns a Schedule, and those of its features that a peer may not know."""
    start = datetime.datetime(2026, 1, 1) + datetime.timedelta(days=rng.randrange(300))
    start = start.replace(hour=rng.choice([0, 1, 2, 2, 9, 17, 23]), minute=rng.choice([0, 15, 30]))
    all_day = rng.random() < 0.2
    features = set()
    text = lambda time: f"{time:%Y-%m-%d}" if all_day else f"{time:%Y-%m-%dT%H:%M:%S}"  # noqa: E731
    spec = {"title": f"Event {number}; \u00e4, b\\c", "timeZone": rng.choice(ZONES), "start": text(start)}
    spec.update({"allDay": True} if all_day else {"duration": rng.choice(["15m", "1h", "25h"])})
    recurrence = {}
    if rng.random() < 0.85:
        rule = rng.choice(RULES[:-1] if all_day else RULES)
        end = rng.choice(["", f";COUNT={rng.randint(1, 40)}", f";UNTIL=202711{rng.randint(1, 28):02}"])
        if rng.random() < 0.1:
            recurrence["rrules"] = [rule + end, "FREQ=MONTHLY;BYMONTHDAY=7"]
        else:
            recurrence["rrule"] = rule + end
        if rng.random() < 0.1:
            recurrence["exceptRrules"] = ["FREQ=MONTHLY;BYMONTHDAY=7"]
            features.add("EXRULE")
    for _ in range(rng.choice([0, 0, 1, 2])):
        date = start + datetime.timedelta(days=rng.randrange(1, 500), hours=0 if all_day else rng.randrange(4))
        dates = recurrence.setdefault("dates", [])
        if text(date) not in dates:
            dates.append(text(date))
    if rng.random() < 0.25 and not all_day:
        recurrence["dst"] = {"gap": rng.choice(["ShiftForward", "Skip"]), "fold": rng.choice(["First", "Last", "Both"])}
        features.add("policy")
    if recurrence:
        spec["recurrence"] = recurrence
    spec["participants"] = [{"name": "Kim, Minji", "email": "minji@example.com"}, {"name": "Jonas \"J\" Weber"}]
    spec["resources"] = ["room-3f-a"]
    return {"apiVersion": "belfry.dev/v1alpha1", "kind": "Schedule", "metadata": {"name": f"s{number}"}, "spec": spec}, features


def belfry(binary, *arguments):
    done = subprocess.run([binary, "schedule", *arguments], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout, done.stderr


def previews(binary, file):
    out, _ = belfry(binary, "preview", "-f", file, "--from", f"{FROM:%Y-%m-%dT%H:%M:%SZ}", "--to", f"{TO:%Y-%m-%dT%H:%M:%SZ}", "--limit", "10000", "-o", "json")
    return {it["schedule"].split("/")[1]: it for it in map(json.loads, out.splitlines())}


def ours(preview, all_day):
    """(start, end) as instants, or as dates if the event lasts whole days."""
    found = []
    for it in preview["occurrences"]:
        start, end = (datetime.datetime.fromisoformat(it[key]) for key in ("start", "end"))
        found.append((start.date(), end.date()) if all_day else (start.astimezone(UTC), end.astimezone(UTC)))
    return sorted(found)


def overrides(rng, document, preview):
    """Adds overrides and exceptions of existing occurrences to the document. Returns those features that a peer may not know."""
    all_day = "allDay" in document["spec"]
    recurrence = document["spec"].get("recurrence", {})
    ids = [it["id"] for it in preview["occurrences"][:20] if not it["id"].endswith("/2")]
    features = set()
    for name in rng.sample(ids, min(len(ids), rng.choice([0, 0, 1, 2, 3]))):
        text = name[:10] if all_day else name
        time = datetime.datetime.fromisoformat(text)
        later = time + datetime.timedelta(days=rng.randrange(-2, 3), hours=0 if all_day else rng.choice([0, 1, 5]))
        moved = f"{later:%Y-%m-%d}" if all_day else f"{later:%Y-%m-%dT%H:%M:%S}"
        kind = rng.randrange(5)
        if kind == 0:
            recurrence.setdefault("exceptDates", []).append(rng.choice([text, text[:10]]))
            continue
        change = [{"cancelled": True}, {"start": moved}, {"duration": "48h" if all_day else "3h"}, {"start": moved, "range": "ThisAndFuture"}][kind - 1]
        if "range" in change:
            if "THISANDFUTURE" in features or "rrule" not in recurrence:
                continue
            features.add("THISANDFUTURE")
        recurrence.setdefault("overrides", []).append({"recurrenceId": text, **change})
    if recurrence and "rrule" not in recurrence and "rrules" not in recurrence and "dates" not in recurrence:
        recurrence.setdefault("dst", {})
    if recurrence:
        document["spec"]["recurrence"] = recurrence
    return features


def when(value):
    value = value.dt
    return value.astimezone(UTC) if isinstance(value, datetime.datetime) else value


def by_python(text):
    """Occurrences by UID."""
    found = {}
    calendar = icalendar.Calendar.from_ical(text)
    # A margin of 40 days, because `between` returns what overlaps the range.
    for event in recurring_ical_events.of(calendar).between(FROM - datetime.timedelta(days=40), TO + datetime.timedelta(days=40)):
        if event.get("STATUS") == "CANCELLED":
            continue
        found.setdefault(str(event["UID"]), []).append((when(event["DTSTART"]), when(event["DTEND"])))
    return {uid: sorted(set(all_)) for uid, all_ in found.items()}


class Time(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("year", "month", "day", "hour", "minute", "second", "is_date", "is_daylight")]
    _fields_ += [("zone", ctypes.c_void_p)]


class Span(ctypes.Structure):
    _fields_ = [("start", ctypes.c_long), ("end", ctypes.c_long), ("is_busy", ctypes.c_int)]


CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Span), ctypes.c_void_p)


def libical():
    try:
        lib = ctypes.CDLL("libical.so.3")
    except OSError:
        return None
    pointer = ctypes.c_void_p
    for name, result, arguments in [
        ("icalparser_parse_string", pointer, [ctypes.c_char_p]),
        ("icalcomponent_get_first_component", pointer, [pointer, ctypes.c_int]),
        ("icalcomponent_get_next_component", pointer, [pointer, ctypes.c_int]),
        ("icalcomponent_get_uid", ctypes.c_char_p, [pointer]),
        ("icalcomponent_get_first_property", pointer, [pointer, ctypes.c_int]),
        ("icalproperty_string_to_kind", ctypes.c_int, [ctypes.c_char_p]),
        ("icalproperty_get_datetime_with_component", Time, [pointer, pointer]),
        ("icaltime_as_timet_with_zone", ctypes.c_long, [Time, pointer]),
        ("icaltime_from_string", Time, [ctypes.c_char_p]),
        ("icalcomponent_foreach_recurrence", None, [pointer, Time, Time, CALLBACK, pointer]),
        ("icalcomponent_string_to_kind", ctypes.c_int, [ctypes.c_char_p]),
        ("icalcomponent_count_errors", ctypes.c_int, [pointer]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    margin = datetime.timedelta(days=40)
    window = [lib.icaltime_from_string(f"{time:%Y%m%dT%H%M%SZ}".encode()) for time in (FROM - margin, TO + margin)]
    kind = lib.icalcomponent_string_to_kind(b"VEVENT")
    recurrence_id = lib.icalproperty_string_to_kind(b"RECURRENCE-ID")

    def read(text):
        calendar = lib.icalparser_parse_string(text.encode())
        assert calendar and lib.icalcomponent_count_errors(calendar) == 0, "libical finds errors in the text"
        found, moved = {}, {}
        event = lib.icalcomponent_get_first_component(calendar, kind)
        while event:
            uid = lib.icalcomponent_get_uid(event).decode()
            spans = []
            collect = CALLBACK(lambda _event, span, _data: spans.append((span.contents.start, span.contents.end)))
            named = lib.icalcomponent_get_first_property(event, recurrence_id)
            is_cancelled = b"STATUS:CANCELLED" in ctypes.string_at(lib_string(event))
            lib.icalcomponent_foreach_recurrence(event, *window, collect, None)
            if not named:
                found.setdefault(uid, set()).update(spans)
            else:
                # Of libical's functions, only this one looks the TZID up.
                name = lib.icalproperty_get_datetime_with_component(named, event)
                at = lib.icaltime_as_timet_with_zone(name, name.zone)
                moved.setdefault(uid, []).append((at, [] if is_cancelled else spans))
            event = lib.icalcomponent_get_next_component(calendar, kind)
        for uid, changes in moved.items():
            gone = {at for at, _ in changes}
            found[uid] = {span for span in found.get(uid, ()) if span[0] not in gone}
            found[uid].update(span for _, spans in changes for span in spans)
        instant = lambda at: datetime.datetime.fromtimestamp(at, UTC)  # noqa: E731
        return {uid: sorted((instant(start), instant(end)) for start, end in all_) for uid, all_ in found.items()}

    lib_string = lib.icalcomponent_as_ical_string
    lib_string.restype, lib_string.argtypes = pointer, [pointer]
    return read


def inside(spans, all_day):
    if all_day:
        return [it for it in spans if FROM.date() < it[0] < TO.date() - datetime.timedelta(days=1)]
    return [it for it in spans if FROM <= it[0] < TO]


def changes_between(zone, start, end):
    """Whether the zone's offset three hours before the start differs from that three hours after the end."""
    margin = datetime.timedelta(hours=3)
    return (start - margin).astimezone(zone).utcoffset() != (end + margin).astimezone(zone).utcoffset()


def known(peer, document, features, mine, theirs):
    """The class of a difference, with its name in docs/icalendar.md; None if it belongs to no known class."""
    spec = document["spec"]
    if "EXRULE" in features:
        return "EXRULE is overlooked"
    if "THISANDFUTURE" in features:
        return "THISANDFUTURE is read in its own way"
    rules = spec.get("recurrence", {}).get("rrules", [])
    if any("HOURLY" in rule for rule in rules):
        return "rules shorter than DAILY beside others are counted on the local clock"
    if "allDay" in spec:
        return None
    zone = ZoneInfo(spec["timeZone"])
    starts = [{start for start, _ in spans} for spans in (mine, theirs)]
    if starts[0] == starts[1]:
        crossing = all(changes_between(zone, *span) for span in set(mine) ^ set(theirs))
        # libical measures the first occurrence and gives its length to all.
        crossing |= peer.startswith("libical") and changes_between(zone, *min(mine))
        return "the end is counted on the local clock" if crossing else None
    # With known zone names, Python errs only where the EXDATE and RDATE of a DST policy tell the two times apart.
    if (peer != "python, by names" or "policy" in features) and all(changes_between(zone, start, start) for start in starts[0] ^ starts[1]):
        return "a local time that is missing or comes twice is read otherwise"
    hour = datetime.timedelta(hours=1)
    apart = [abs(one - other) for one, other in zip(sorted(starts[0] - starts[1]), sorted(starts[1] - starts[0]))]
    early = all(start.astimezone(zone).hour < 4 for start in starts[0] - starts[1])
    if peer.startswith("libical") and early and all(it <= hour for it in apart):
        return "behind a time in a gap it goes on at the shifted time"
    return None


def main():
    binary, cases = sys.argv[1], int((sys.argv[2:] or ["1000"])[0])
    rng = random.Random(int((sys.argv[3:] or ["1"])[0]))
    folder = tempfile.mkdtemp()
    file = os.path.join(folder, "schedules.yaml")
    made = [schedule(rng, number) for number in range(cases)]

    def write():
        with open(file, "w") as out:
            out.write("\n---\n".join(json.dumps(document) for document, _ in made))

    write()
    first = previews(binary, file)
    made = [(document, features) for document, features in made if document["metadata"]["name"] in first]
    for document, features in made:
        features |= overrides(rng, document, first[document["metadata"]["name"]])
    write()
    said = previews(binary, file)
    print(f"{len(said)} Schedules of {cases}")
    text, told = belfry(binary, "export", "-f", file)
    print(f"export: {told.count('refused')} refused")
    odd = text
    for zone in ZONES[1:]:
        odd = odd.replace(f"TZID:{zone}", f"TZID:Odd {ZONES.index(zone)}").replace(f"TZID={zone}:", f"TZID=Odd {ZONES.index(zone)}:")
        odd = odd.replace(f"TZID={zone};", f"TZID=Odd {ZONES.index(zone)};")
    back = os.path.join(folder, "back.yaml")
    calendar = os.path.join(folder, "calendar.ics")
    with open(calendar, "w", newline="") as out:
        out.write(text)
    _, report = belfry(binary, "import", calendar, "-o", back)
    print("import:", report.splitlines()[-1])
    again = previews(binary, back)
    peers = {"python, by names": by_python(text), "python, by our VTIMEZONE": by_python(odd)}
    read = libical()
    if read is None:
        print("libical is not there")
    else:
        peers["libical"] = read(text)
        peers["libical, by our VTIMEZONE"] = read(odd)
    unknown = 0
    for name, peer in [("belfry, read back", None), *peers.items()]:
        same, classes = 0, {}
        for document, features in made:
            uid = document["metadata"]["name"]
            if uid not in said:
                continue
            all_day = "allDay" in document["spec"]
            mine = inside(ours(said[uid], all_day), all_day)
            if peer is None:
                theirs = inside(ours(again.get(uid, {"occurrences": []}), all_day), all_day)
            else:
                theirs = peer.get(f"default/{uid}", [])
                if name.startswith("libical") and "THISANDFUTURE" in features:
                    continue
                if all_day and theirs and isinstance(theirs[0][0], datetime.datetime):
                    theirs = [(start.date(), end.date()) for start, end in theirs]
                theirs = inside(theirs, all_day)
            if mine == theirs:
                same += 1
            else:
                what = known(name, document, features, mine, theirs) or "unknown"
                missing, more = sorted(set(mine) - set(theirs)), sorted(set(theirs) - set(mine))
                classes.setdefault(what, []).append(f"{json.dumps(document['spec'])}\n    only ours   {list(map(shown, missing[:3]))}\n    only theirs {list(map(shown, more[:3]))}")
        print(f"{name}: {same} the same")
        for what, list_ in sorted(classes.items()):
            unknown += len(list_) if what == "unknown" else 0
            print(f"  {len(list_)} {what}")
            print("\n".join(f"  - {it}" for it in list_[: 5 if what == "unknown" else 1]))
    return unknown > 0


def shown(span):
    return " to ".join(f"{it}" for it in span)


if __name__ == "__main__":
    sys.exit(main())
