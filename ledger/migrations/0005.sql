-- What a namespace keeps, in bytes and items, by kind: `pending` and `finished` notifications with what hangs on them, and
-- `letters`. Triggers keep it, so that no statement that makes, ends or removes one can forget it; a row goes with its last
-- item.
CREATE TABLE usage (
    namespace TEXT NOT NULL,
    kind      TEXT NOT NULL,
    bytes     INTEGER NOT NULL,
    items     INTEGER NOT NULL,
    PRIMARY KEY (namespace, kind)
) STRICT, WITHOUT ROWID;

-- What is left to do after something that may concern more than one command should touch; see chores.rs.
CREATE TABLE chores (
    namespace TEXT NOT NULL,
    kind      TEXT NOT NULL,
    name      TEXT NOT NULL,             -- an object's uid, or a topic's name
    row       INTEGER NOT NULL,          -- of channels; else 0
    upto      INTEGER NOT NULL,          -- how far it is, or where it ends
    PRIMARY KEY (namespace, kind, name, row)
) STRICT, WITHOUT ROWID;

-- A channel's row is never given to another: ended deliveries go on naming it.
CREATE TABLE channels_new (
    c            INTEGER PRIMARY KEY AUTOINCREMENT,
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
INSERT INTO channels_new SELECT c, uid, namespace, pending, retrying, delivered, dead, expired, suppressed, last_delivery,
    last_error, last_error_at, failures, tokens, refilled, paused, test, test_id, resend FROM channels;
DROP TABLE channels;
ALTER TABLE channels_new RENAME TO channels;
CREATE INDEX channels_namespace ON channels (namespace);
INSERT INTO sqlite_sequence (name, seq) SELECT 'channels', 0
    WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'channels');
UPDATE sqlite_sequence SET seq = max(seq, (SELECT coalesce(max(c), 0) FROM deliveries)) WHERE name = 'channels';
-- Rows were given again before: what ended for an earlier channel is not the later one's.
UPDATE deliveries SET c = NULL WHERE state > 0 AND EXISTS (SELECT 1 FROM channels x JOIN plans p ON p.uid = x.uid
    WHERE x.c = deliveries.c AND (x.namespace <> deliveries.namespace OR p.body ->> 'name' <> deliveries.channel));

-- The place of a record, in its namespace: what one namespace says of a record is not another's. Rows are in the order of
-- their making. The newest 16 MiB of each namespace are taken over.
ALTER TABLE dead_letters RENAME TO letters_before;
CREATE TABLE dead_letters (
    l         INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    topic_id  TEXT NOT NULL,
    p         INTEGER NOT NULL,
    position  INTEGER NOT NULL,
    topic     TEXT NOT NULL,
    stored    INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,          -- what it counts as: its body, and 256 for the row
    body      TEXT NOT NULL              -- protocol::DeadLetter
) STRICT;
CREATE UNIQUE INDEX dead_letters_record ON dead_letters (namespace, topic_id, p, position);
CREATE INDEX dead_letters_namespace ON dead_letters (namespace);
INSERT INTO dead_letters (l, namespace, topic_id, p, position, topic, stored, bytes, body)
    SELECT k.l, b.namespace, b.topic_id, b.p, b.position, b.topic, b.stored, k.bytes, b.body
    FROM (SELECT topic_id, p, position, bytes,
            row_number() OVER (ORDER BY stored, topic_id, p, position) AS l,
            sum(bytes) OVER (PARTITION BY namespace
                ORDER BY stored DESC, topic_id DESC, p DESC, position DESC) AS kept
        -- The lengths alone are sorted: bodies would fill the memory.
        FROM (SELECT namespace, topic_id, p, position, stored, 256 + octet_length(body) AS bytes
            FROM letters_before)) k
    CROSS JOIN letters_before b ON b.topic_id = k.topic_id AND b.p = k.p AND b.position = k.position
    WHERE k.kept <= 16777216;
DROP TABLE letters_before;
CREATE INDEX dead_letters_stored ON dead_letters (stored);
-- Letters of topics that no rule reads any more.
INSERT INTO chores (namespace, kind, name, row, upto) SELECT DISTINCT d.namespace, 'letters', d.topic, 0, 0
    FROM dead_letters d WHERE NOT EXISTS (SELECT 1 FROM topics t JOIN sources s ON s.s = t.s
    WHERE s.namespace = d.namespace AND t.name = d.topic);

CREATE TRIGGER dead_letters_kept AFTER INSERT ON dead_letters BEGIN
    INSERT INTO usage (namespace, kind, bytes, items) VALUES (NEW.namespace, 'letters', NEW.bytes, 1)
        ON CONFLICT (namespace, kind) DO UPDATE SET bytes = bytes + excluded.bytes, items = items + 1;
END;
CREATE TRIGGER dead_letters_gone AFTER DELETE ON dead_letters BEGIN
    UPDATE usage SET bytes = bytes - OLD.bytes, items = items - 1
        WHERE namespace = OLD.namespace AND kind = 'letters';
    DELETE FROM usage WHERE namespace = OLD.namespace AND kind = 'letters' AND items = 0;
END;

-- What a notification counts as since it was settled, with its deliveries and attempts; 0 before: its body, and 512.
ALTER TABLE notifications ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX notifications_finished ON notifications (namespace, settled) WHERE settled IS NOT NULL;
CREATE TRIGGER notifications_kept AFTER INSERT ON notifications BEGIN
    INSERT INTO usage (namespace, kind, bytes, items)
        VALUES (NEW.namespace, iif(NEW.settled IS NULL, 'pending', 'finished'),
            iif(NEW.bytes > 0, NEW.bytes, 512 + octet_length(NEW.body)), 1)
        ON CONFLICT (namespace, kind) DO UPDATE SET bytes = bytes + excluded.bytes, items = items + 1;
END;
CREATE TRIGGER notifications_moved AFTER UPDATE OF settled, bytes ON notifications
    WHEN (OLD.settled IS NULL) <> (NEW.settled IS NULL) OR OLD.bytes <> NEW.bytes
BEGIN
    INSERT INTO usage (namespace, kind, bytes, items)
        VALUES (NEW.namespace, iif(NEW.settled IS NULL, 'pending', 'finished'),
            iif(NEW.bytes > 0, NEW.bytes, 512 + octet_length(NEW.body)), 1)
        ON CONFLICT (namespace, kind) DO UPDATE SET bytes = bytes + excluded.bytes, items = items + 1;
    UPDATE usage SET bytes = bytes - iif(OLD.bytes > 0, OLD.bytes, 512 + octet_length(OLD.body)), items = items - 1
        WHERE namespace = OLD.namespace AND kind = iif(OLD.settled IS NULL, 'pending', 'finished');
    DELETE FROM usage
        WHERE namespace = OLD.namespace AND kind = iif(OLD.settled IS NULL, 'pending', 'finished') AND items = 0;
END;
CREATE TRIGGER notifications_gone AFTER DELETE ON notifications BEGIN
    UPDATE usage SET bytes = bytes - iif(OLD.bytes > 0, OLD.bytes, 512 + octet_length(OLD.body)), items = items - 1
        WHERE namespace = OLD.namespace AND kind = iif(OLD.settled IS NULL, 'pending', 'finished');
    DELETE FROM usage
        WHERE namespace = OLD.namespace AND kind = iif(OLD.settled IS NULL, 'pending', 'finished') AND items = 0;
END;

-- What is there already.
INSERT INTO usage (namespace, kind, bytes, items)
    SELECT namespace, 'letters', sum(bytes), count(*) FROM dead_letters GROUP BY namespace;
INSERT INTO usage (namespace, kind, bytes, items)
    SELECT namespace, 'pending', sum(512 + octet_length(body)), count(*)
    FROM notifications INDEXED BY notifications_namespace WHERE settled IS NULL GROUP BY namespace;
INSERT INTO usage (namespace, kind, bytes, items)
    SELECT namespace, 'finished', sum(512 + octet_length(body)), count(*)
    FROM notifications INDEXED BY notifications_namespace WHERE settled IS NOT NULL GROUP BY namespace;

-- When a value of an annotation was handled: of each channel and action the newest 200 are kept.
ALTER TABLE requests ADD COLUMN at INTEGER NOT NULL DEFAULT 0;
