-- Several hubs over one database: what one process may keep in memory is in rows.

-- One row. A transaction that writes locks it first, so those of all hubs run one after the other.
CREATE TABLE writer (
    one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
    catalog BIGINT NOT NULL,  -- rises with each change of plans or of known namespaces
    signal BIGINT NOT NULL,  -- rises with each transaction that wakes somebody
    notification BIGINT NOT NULL,  -- the last ids given out
    delivery BIGINT NOT NULL,
    place BIGINT NOT NULL,
    status BIGINT NOT NULL  -- the last version of the status feed
);
INSERT INTO writer (catalog, signal, notification, delivery, place, status)
    SELECT 0, 0, (SELECT coalesce(max(n), 0) FROM notifications), (SELECT coalesce(max(d), 0) FROM deliveries),
        (SELECT coalesce(max(place), 0) FROM deliveries),
        greatest((SELECT coalesce(max(version), 0) FROM statuses),
            coalesce((SELECT CAST(value AS BIGINT) FROM meta WHERE key = 'feed'), 0));

-- Which plans and namespaces changed, by the version of the catalog. The latest 10,000 versions are kept.
CREATE TABLE catalog_changes (
    version BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,  -- plan or namespace
    key TEXT COLLATE "C" NOT NULL,  -- its uid or its name
    PRIMARY KEY (version, kind, key)
);

-- The last transaction that woke somebody, by what it woke: ledger::Signal as JSON.
CREATE TABLE signals (
    key TEXT COLLATE "C" PRIMARY KEY,
    version BIGINT NOT NULL
);
CREATE INDEX signals_version ON signals (version);

-- The hubs that run, and what workers told each of them.
CREATE TABLE hubs (
    hub TEXT COLLATE "C" PRIMARY KEY,
    seen TIMESTAMPTZ NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);

-- An entry of an index holds 2,700 bytes, and labels may be longer. The writer makes no group twice.
ALTER TABLE groups DROP CONSTRAINT groups_r_labels_key;
CREATE INDEX groups_labels ON groups (r, md5(labels));
