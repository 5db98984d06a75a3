-- What a rule or schedule caused and nobody got: deliveries that ended dead or expired since a later message of the same
-- object last arrived at the same recipient, and that were not sent again or removed since. Triggers keep it, so that no
-- statement that ends, revives or removes a delivery can forget it.
CREATE TABLE undelivered (
    namespace TEXT NOT NULL,
    object    TEXT NOT NULL,
    channel   TEXT NOT NULL,
    recipient TEXT NOT NULL,             -- empty where a channel has one, and for one that waited for its channel
    count     INTEGER NOT NULL,
    since     INTEGER NOT NULL,          -- when the first of them ended
    n         INTEGER NOT NULL,          -- the latest of their notifications
    state     INTEGER NOT NULL,          -- of the last of them
    reason    TEXT NOT NULL,
    PRIMARY KEY (namespace, object, channel, recipient)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER deliveries_given_up AFTER UPDATE OF state ON deliveries
    WHEN NEW.state IN (2, 3) AND OLD.state NOT IN (2, 3)
BEGIN
    INSERT INTO undelivered (namespace, object, channel, recipient, count, since, n, state, reason)
        SELECT NEW.namespace, n.object, NEW.channel, NEW.recipient, 1, NEW.ended, NEW.n, NEW.state,
            substr(NEW.reason, 1, 300)
        FROM notifications n JOIN plans p ON p.uid = n.object WHERE n.n = NEW.n
        ON CONFLICT (namespace, object, channel, recipient) DO UPDATE SET count = count + 1,
            n = max(n, excluded.n), state = excluded.state, reason = excluded.reason;
END;

CREATE TRIGGER deliveries_taken_up AFTER UPDATE OF state ON deliveries
    WHEN OLD.state IN (2, 3) AND NEW.state NOT IN (2, 3)
BEGIN
    UPDATE undelivered SET count = count - 1 WHERE namespace = OLD.namespace
        AND object = (SELECT object FROM notifications WHERE n = OLD.n)
        AND channel = OLD.channel AND recipient = OLD.recipient AND since <= OLD.ended;
END;

CREATE TRIGGER deliveries_removed AFTER DELETE ON deliveries WHEN OLD.state IN (2, 3)
BEGIN
    UPDATE undelivered SET count = count - 1 WHERE namespace = OLD.namespace
        AND object = (SELECT object FROM notifications WHERE n = OLD.n)
        AND channel = OLD.channel AND recipient = OLD.recipient AND since <= OLD.ended;
END;

CREATE TRIGGER undelivered_none AFTER UPDATE OF count ON undelivered WHEN NEW.count <= 0
BEGIN
    DELETE FROM undelivered WHERE namespace = NEW.namespace AND object = NEW.object
        AND channel = NEW.channel AND recipient = NEW.recipient;
END;

CREATE TRIGGER deliveries_arrived AFTER UPDATE OF state ON deliveries
    WHEN NEW.state = 1 AND OLD.state <> 1
        AND EXISTS (SELECT 1 FROM undelivered u WHERE u.namespace = NEW.namespace)
BEGIN
    DELETE FROM undelivered WHERE namespace = NEW.namespace
        AND object = (SELECT object FROM notifications WHERE n = NEW.n)
        AND channel = NEW.channel AND recipient IN (NEW.recipient, '') AND n < NEW.n;
END;

-- What a rule made of the records that came lately, about the last 1,000: read; of which it could not look into or
-- evaluate; of which it matched and then could not count; of which it counted. With the last that it could not, as JSON.
ALTER TABLE rules ADD COLUMN lately_read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rules ADD COLUMN lately_failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rules ADD COLUMN lately_lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rules ADD COLUMN lately_counted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rules ADD COLUMN unmatched TEXT;
-- When records were last dropped for this reason.
ALTER TABLE drops ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
