-- Which namespace of a name is meant: one that was deleted and made again is another. What was recorded up to here is of the
-- ones before: nobody reads or gets it any more, and it is removed in batches.
CREATE TABLE namespaces (
    namespace TEXT PRIMARY KEY,
    uid       TEXT NOT NULL,
    created   INTEGER NOT NULL,
    n         INTEGER NOT NULL,          -- notifications
    d         INTEGER NOT NULL,          -- deliveries
    l         INTEGER NOT NULL           -- letters
) STRICT, WITHOUT ROWID;

-- The process that makes an attempt; absent where its worker names none.
ALTER TABLE attempts ADD COLUMN session TEXT;
CREATE INDEX deliveries_leased ON deliveries (namespace) WHERE lease IS NOT NULL;

-- Finished notifications of a schedule, and deliveries to a channel, that went before their time.
ALTER TABLE schedules ADD COLUMN history_dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN history_dropped INTEGER NOT NULL DEFAULT 0;

-- In how many partitions a rule is active: what a namespace has of them is the sum over its rules.
ALTER TABLE rules ADD COLUMN activations INTEGER NOT NULL DEFAULT 0;
UPDATE rules SET activations = (SELECT count(*) FROM activations a WHERE a.r = rules.r);
CREATE TRIGGER activations_made AFTER INSERT ON activations BEGIN
    UPDATE rules SET activations = activations + 1 WHERE r = NEW.r;
END;
CREATE TRIGGER activations_gone AFTER DELETE ON activations BEGIN
    UPDATE rules SET activations = activations - 1 WHERE r = OLD.r;
END;
