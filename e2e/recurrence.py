#!/usr/bin/env python3
"""Expands random rules with `belfry schedule expand` and compares the result with that of python-dateutil, of libical if it is
installed, and of the `rrule` crate if RRULE_PEER names the program (`cargo build --release -p belfry-calendar --example rrule_peer`).

usage: recurrence.py BELFRY [CASES] [SEED]

Prints the differences by class; docs/recurrence.md says which result is right and why. Ends with 1 if a difference belongs to no
known class. The rules are all allowed by the RFC. Rules shorter than DAILY are made only for zones whose clocks don't change,
because dateutil counts hours on the local clock.
"""

import ctypes
import datetime
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import warnings
from zoneinfo import ZoneInfo

warnings.simplefilter("ignore")
from dateutil.rrule import rrulestr  # noqa: E402

UTC = datetime.timezone.utc
DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
FREQUENCIES = ["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"]
MOVING = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "America/Santiago", "America/Havana"]
STILL = ["UTC", "Asia/Seoul", "Asia/Kolkata"]
LIMIT = 12


def rule(rng):
    """Returns a random rule that the RFC allows, as a dict of its parts."""
    freq = rng.choice(FREQUENCIES)
    parts = {"FREQ": freq}

    def maybe(name, chance, values, most):
        if rng.random() < chance:
            parts[name] = ",".join(str(v) for v in sorted(rng.sample(values, rng.randint(1, most))))

    signed = lambda high: [n for n in range(-high, high + 1) if n]  # noqa: E731
    if rng.random() < 0.4:
        parts["INTERVAL"] = rng.choice([2, 3, 4, 5, 7, 12, 90] if freq in FREQUENCIES[4:] else [2, 3, 4, 5])
    maybe("BYMONTH", 0.3, range(1, 13), 4)
    if freq == "YEARLY":
        maybe("BYWEEKNO", 0.2, signed(53), 4)
    if freq not in ("DAILY", "WEEKLY", "MONTHLY"):
        maybe("BYYEARDAY", 0.15, signed(366), 20)
    if freq != "WEEKLY":
        maybe("BYMONTHDAY", 0.25, signed(31), 6)
    if rng.random() < 0.4:
        most = {"MONTHLY": 5, "YEARLY": 5 if "BYMONTH" in parts else 53}.get(freq, 0) if "BYWEEKNO" not in parts else 0
        ordinals = [""] * 20 + [n for n in signed(most)] if most else [""]
        parts["BYDAY"] = ",".join({f"{rng.choice(ordinals)}{rng.choice(DAYS)}" for _ in range(rng.randint(1, 3))})
    maybe("BYHOUR", 0.2, range(24), 4)
    maybe("BYMINUTE", 0.2, range(60), 4)
    maybe("BYSECOND", 0.1, range(60), 2)
    if len(parts) > 1 + ("INTERVAL" in parts):
        maybe("BYSETPOS", 0.25, signed(5), 2)
    if rng.random() < 0.3:
        parts["WKST"] = rng.choice(DAYS)
    if rng.random() < 0.5:
        parts["COUNT"] = rng.randint(1, 2 * LIMIT)
    return parts


def by_dateutil(text, start, zone):
    # A few more than needed, because some may turn out to be the same instant.
    local = itertools.islice(rrulestr(text, dtstart=start), LIMIT + 4)
    # fold=0 reads a missing local time with the offset before the gap, and takes the first of a repeated one.
    instants = [time.replace(tzinfo=zone).astimezone(UTC) for time in local]
    return [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in sorted(set(instants))][:LIMIT]


def libical():
    try:
        expand = ctypes.CDLL("libical.so.3").icalrecur_expand_recurrence
    except OSError:
        return None

    def by_libical(text, start, _zone):
        found = (ctypes.c_long * LIMIT)()
        expand(text.encode(), ctypes.c_long(int(start.replace(tzinfo=UTC).timestamp())), LIMIT, found)
        instants = [datetime.datetime.fromtimestamp(at, UTC) for at in found if at]
        return [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in instants]

    return by_libical


def rrule_crate(meta):
    """Runs the program of the `rrule` crate once for all cases. Returns a function that looks an answer up."""
    if "RRULE_PEER" not in os.environ:
        return None
    lines = (f"{zone}\t{start:%Y%m%dT%H%M%S}\t{text}\t{LIMIT + 4}" for _, text, start, zone in meta)
    done = subprocess.run([os.environ["RRULE_PEER"]], input="\n".join(lines), capture_output=True, text=True, check=True)
    found = (None if line == "refused" else sorted(set(line.split()))[:LIMIT] for line in done.stdout.splitlines())
    all_answers = {case[1:]: answer for case, answer in zip(meta, found)}
    return lambda text, start, zone: all_answers[text, start, str(zone)]


def known(peer, parts, zone):
    """The class of a difference, with its name in docs/recurrence.md; None if it belongs to no known class."""
    freq = parts["FREQ"]
    if "BYWEEKNO" in parts and not {"BYMONTHDAY", "BYYEARDAY", "BYDAY"} & parts.keys():
        return "BYWEEKNO alone takes its weekday from the start"
    if peer != "libical":
        ordinals = {day[:-2] != "" for day in parts.get("BYDAY", "").split(",")}
        if len(ordinals) == 2:
            return "days with and without an ordinal are one list"
        if freq == "WEEKLY" and "BYSETPOS" in parts:
            return "BYSETPOS counts the whole first week"
        if any(abs(int(week)) >= 51 for week in parts.get("BYWEEKNO", "0").split(",")):
            return "BYWEEKNO looks at the days of the calendar year"
        if peer == "rrule" and FREQUENCIES.index(freq) > 3 and len(parts) > 1:
            return "parts of the time limit the periods of shorter rules"
        if peer == "rrule" and zone in MOVING:
            return "a time in a gap is read with the offset before it"
        return None
    limits = ["BYHOUR", "BYMINUTE", "BYSECOND"][: max(0, FREQUENCIES.index(freq) - 3)]
    if "BYSETPOS" in parts:
        return "BYSETPOS picks from the date-times of every period"
    if parts.keys() & set(limits):
        return "parts of the time limit the periods of shorter rules"
    if freq not in ("MONTHLY", "YEARLY") and "-" in parts.get("BYMONTHDAY", "") + parts.get("BYYEARDAY", ""):
        return "negative days count from the end in every frequency"
    if "BYWEEKNO" in parts and "-" in parts["BYWEEKNO"]:
        return "negative weeks count from the end"
    if freq == "YEARLY" and "BYMONTHDAY" in parts and "BYMONTH" not in parts:
        return "BYMONTHDAY alone is in every month"
    if freq == "YEARLY" and len({"BYMONTH", "BYWEEKNO", "BYYEARDAY", "BYMONTHDAY", "BYDAY"} & parts.keys()) > 1:
        return "parts of a year are held against each other"
    if freq == "WEEKLY" and "INTERVAL" in parts:
        return "INTERVAL counts weeks from the week of the start"
    return None


def answers(peer, text, start, zone):
    """A peer's answer; None if it refuses, or takes longer than 50 ms. It runs in a child process, because C code can't be
    interrupted."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            answer = peer(text, start, zone)
            os.write(write, json.dumps(answer).encode() if answer is not None else b"")
        except (ValueError, OverflowError):
            pass
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else None


def main():
    belfry, cases = sys.argv[1], int((sys.argv[2:] or ["20000"])[0])
    rng = random.Random(int((sys.argv[3:] or ["1"])[0]))
    requests, meta = [], []
    for _ in range(cases):
        parts = rule(rng)
        sub_daily = parts["FREQ"] in FREQUENCIES[4:]
        zone = rng.choice(STILL if sub_daily else STILL[:1] + MOVING)
        day = datetime.datetime(1996, 1, 1) + datetime.timedelta(days=rng.randrange(12_000))
        start = day.replace(hour=rng.randrange(24), minute=rng.choice([0, 30, rng.randrange(60)]))
        text = ";".join(f"{name}={value}" for name, value in parts.items())
        requests.append(json.dumps({"rrule": text, "dtstart": start.isoformat(), "tzid": zone, "limit": LIMIT}))
        meta.append((parts, text, start, zone))
    done = subprocess.run([belfry, "schedule", "expand"], input="\n".join(requests), capture_output=True, text=True, check=True)
    ours = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ours) == cases
    peers = {"dateutil": by_dateutil, "rrule": rrule_crate(meta), "libical": libical()}
    unknown = 0
    for name, peer in peers.items():
        if peer is None:
            print(f"{name} is not there")
            continue
        same, silent, classes = 0, 0, {}
        for (parts, text, start, zone), answer in zip(meta, ours):
            if name == "libical" and zone != "UTC":
                continue
            if isinstance(answer, dict):
                classes.setdefault(f"refused: {answer['error']}"[:60], []).append(f"{start} {text}")
                continue
            theirs = answers(peer, text, start, ZoneInfo(zone))
            if name == "rrule" and theirs is not None:
                # The crate's zone data end with the year 2099, and its search is limited.
                answer = [at for at in answer if at < "2100"]
                theirs = [at for at in theirs if at < "2100"]
                answer = answer[: len(theirs)] if len(theirs) < LIMIT else answer
            if theirs is None:
                silent += 1
            elif theirs == answer:
                same += 1
            else:
                what = known(name, parts, zone) or "unknown"
                classes.setdefault(what, []).append(f"{start} {zone} {text}\n    ours   {answer[:6]}\n    theirs {theirs[:6]}")
        print(f"{name}: {same} the same, {silent} without an answer in time or by choice")
        for what, list_ in sorted(classes.items()):
            unknown += len(list_) if what == "unknown" else 0
            print(f"  {len(list_)} {what}")
            print("\n".join(f"  - {it}" for it in list_[: 15 if what == "unknown" else 1]))
    return unknown > 0


if __name__ == "__main__":
    sys.exit(main())
