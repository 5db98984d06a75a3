-- Ids that other systems see are UUIDs as text; rows refer to each other by small integers that the hub gives out.
-- Times are Unix milliseconds. Nothing is deleted in a cascade: what goes together is deleted together, by statement.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE plans (
    uid       TEXT PRIMARY KEY,
    body      TEXT NOT NULL,             -- domain::Plan
    resumed   INTEGER,                   -- when it was last resumed, if ever
    absent    INTEGER                    -- since when it is not among the live objects
) STRICT, WITHOUT ROWID;

-- One row for each channel, kept while its plan is.
CREATE TABLE channels (
    c            INTEGER PRIMARY KEY,
    uid          TEXT NOT NULL UNIQUE,
    namespace    TEXT NOT NULL,
    pending      INTEGER NOT NULL DEFAULT 0,  -- no attempt has ended yet
    retrying     INTEGER NOT NULL DEFAULT 0,  -- at least one has
    delivered    INTEGER NOT NULL DEFAULT 0,
    dead         INTEGER NOT NULL DEFAULT 0,
    expired      INTEGER NOT NULL DEFAULT 0,
    suppressed   INTEGER NOT NULL DEFAULT 0,
    last_delivery INTEGER,
    last_error   TEXT,
    last_error_at INTEGER,
    failures     INTEGER NOT NULL DEFAULT 0,
    tokens       REAL NOT NULL DEFAULT 0,     -- at `refilled`; more have grown since
    refilled     INTEGER,                     -- absent: the bucket is full
    paused       INTEGER,                     -- nothing is handed out before
    test         TEXT,                        -- protocol::RequestStatus
    test_id      TEXT,                        -- the notification that it made
    resend       TEXT                         -- protocol::RequestStatus
) STRICT;
CREATE INDEX channels_namespace ON channels (namespace);

-- Every value of an annotation that was handled.
CREATE TABLE requests (
    channel TEXT NOT NULL,
    action  TEXT NOT NULL,
    request TEXT NOT NULL,
    answer  TEXT NOT NULL,
    PRIMARY KEY (channel, action, request)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedules (
    uid       TEXT PRIMARY KEY,
    through   INTEGER NOT NULL,
    last      INTEGER,
    recorded  INTEGER NOT NULL DEFAULT 0,
    skipped   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE rules (
    r             INTEGER PRIMARY KEY,
    uid           TEXT NOT NULL UNIQUE,
    namespace     TEXT NOT NULL,
    decided       INTEGER,               -- every bucket that ends at or before is decided
    observed      INTEGER,               -- event time from which on it has seen all records, once that is known
    matched       INTEGER NOT NULL DEFAULT 0,
    last_match    INTEGER,
    last_alert    INTEGER,
    late          INTEGER NOT NULL DEFAULT 0,
    dead_lettered INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX rules_namespace ON rules (namespace);

CREATE TABLE drops (
    r      INTEGER NOT NULL,
    reason TEXT NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (r, reason)
) STRICT, WITHOUT ROWID;

CREATE TABLE groups (
    g       INTEGER PRIMARY KEY,
    r       INTEGER NOT NULL,
    labels  TEXT NOT NULL,               -- JSON object, keys sorted
    state   TEXT NOT NULL,               -- alerting's
    firing  INTEGER,                     -- since when
    count   INTEGER NOT NULL DEFAULT 0,  -- at the last notification
    next    INTEGER,                     -- the first boundary at which something may change
    sample  TEXT,                        -- protocol::Sample of the last notification
    recent  INTEGER NOT NULL DEFAULT 0,  -- start of the newest bucket that it ever had
    UNIQUE (r, labels)
) STRICT;
CREATE INDEX groups_next ON groups (r, next) WHERE next IS NOT NULL;
CREATE INDEX groups_firing ON groups (r, firing) WHERE firing IS NOT NULL;

CREATE TABLE buckets (
    g      INTEGER NOT NULL,
    bucket INTEGER NOT NULL,             -- its start
    count  INTEGER NOT NULL,
    first  TEXT NOT NULL,                -- protocol::Sample
    last   TEXT NOT NULL,
    extras TEXT,                         -- domain::Extras, for conditions that need them
    top    TEXT,                         -- domain::Values by name, for rules with topValues
    PRIMARY KEY (g, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE sources (
    s         INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    UNIQUE (namespace, key)
) STRICT;

CREATE TABLE topics (
    t        INTEGER PRIMARY KEY,
    s        INTEGER NOT NULL,
    name     TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    unread   INTEGER,                    -- since when no rule reads it
    UNIQUE (s, name)
) STRICT;

CREATE TABLE partitions (
    t        INTEGER NOT NULL,
    p        INTEGER NOT NULL,
    position INTEGER NOT NULL,           -- the next offset to read
    progress INTEGER,                    -- event time, never back
    high     INTEGER NOT NULL,           -- the next offset to be written, as last seen
    PRIMARY KEY (t, p)
) STRICT, WITHOUT ROWID;

CREATE TABLE activations (
    r        INTEGER NOT NULL,
    t        INTEGER NOT NULL,
    p        INTEGER NOT NULL,
    position INTEGER NOT NULL,
    since    INTEGER,                    -- event time there
    PRIMARY KEY (r, t, p)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letters (
    topic_id  TEXT NOT NULL,
    p         INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    topic     TEXT NOT NULL,
    stored    INTEGER NOT NULL,
    body      TEXT NOT NULL,             -- protocol::DeadLetter
    PRIMARY KEY (topic_id, p, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letters_stored ON dead_letters (stored);

CREATE TABLE notifications (
    n         INTEGER PRIMARY KEY,       -- in the order of their making
    id        TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    object    TEXT NOT NULL,             -- the rule, schedule or tested channel
    created   INTEGER NOT NULL,
    settled   INTEGER,                   -- when its last delivery ended
    dead      INTEGER NOT NULL DEFAULT 0,
    body      TEXT NOT NULL              -- domain::Notification
) STRICT;
CREATE INDEX notifications_namespace ON notifications (namespace, n);
CREATE INDEX notifications_object ON notifications (object, n);
CREATE INDEX notifications_settled ON notifications (dead, settled) WHERE settled IS NOT NULL;

-- state: 0 Pending, 1 Delivered, 2 Dead, 3 Expired, 4 Suppressed.
-- Of the pending ones of a lane, the one with the least place is its head (head = 1), and only heads are handed out.
CREATE TABLE deliveries (
    d         INTEGER PRIMARY KEY,
    id        TEXT UNIQUE,               -- absent while it waits for a channel of that name
    n         INTEGER NOT NULL,
    c         INTEGER,                   -- absent with id
    namespace TEXT NOT NULL,
    channel   TEXT NOT NULL,
    recipient TEXT NOT NULL,
    lane      INTEGER NOT NULL,          -- hash of (channel, recipient, ordering key): a collision only joins two lanes
    place     INTEGER NOT NULL,
    head      INTEGER NOT NULL,
    state     INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    made      INTEGER NOT NULL,          -- ended attempts that the policy counts
    numbered  INTEGER NOT NULL,          -- number of the last attempt
    due       INTEGER NOT NULL,
    lease     INTEGER,                   -- until when a worker has it
    expires   INTEGER NOT NULL,
    ended     INTEGER
) STRICT;
CREATE INDEX deliveries_notification ON deliveries (n);
CREATE INDEX deliveries_due ON deliveries (c, (made > 0), due)
    WHERE state = 0 AND head = 1 AND lease IS NULL;
CREATE INDEX deliveries_lane ON deliveries (lane, place) WHERE state = 0;
CREATE INDEX deliveries_expires ON deliveries (expires) WHERE state = 0 AND lease IS NULL;
CREATE INDEX deliveries_lease ON deliveries (lease) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_pending ON deliveries (c, d) WHERE state = 0;
CREATE INDEX deliveries_dead ON deliveries (c, place) WHERE state = 2;
CREATE INDEX deliveries_waiting ON deliveries (namespace, channel, d) WHERE state = 0 AND c IS NULL;

-- state: 0 under way, 1 reported, 2 the lease ran out.
CREATE TABLE attempts (
    d        INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    instance TEXT NOT NULL,
    started  INTEGER NOT NULL,
    state    INTEGER NOT NULL,
    ended    INTEGER,
    outcome  TEXT,
    reason   TEXT NOT NULL,
    PRIMARY KEY (d, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE statuses (
    uid       TEXT PRIMARY KEY,
    version   INTEGER NOT NULL UNIQUE,
    published INTEGER NOT NULL,
    body      TEXT NOT NULL              -- protocol::ObjectStatus
) STRICT, WITHOUT ROWID;
