-- Up to which boundary the group is decided: it may be behind its rule. Absent before it is decided for the first time,
-- where its rule had not decided anything when it was made.
ALTER TABLE groups ADD COLUMN decided INTEGER;
-- About how many bytes it takes, with its buckets.
ALTER TABLE groups ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
UPDATE groups SET decided = (SELECT r.decided FROM rules r WHERE r.r = groups.r),
    bytes = 120 + 2 * octet_length(labels) + octet_length(state) + coalesce(octet_length(sample), 0)
        + coalesce(octet_length(window), 0)
        + (SELECT coalesce(sum(60 + octet_length(b.first) + octet_length(b.last)
            + coalesce(octet_length(b.extras), 0) + coalesce(octet_length(b.top), 0)), 0)
            FROM buckets b WHERE b.g = groups.g);
CREATE INDEX groups_quiet ON groups (r, recent) WHERE firing IS NULL;

-- The rule's groups, and about how many bytes they take. What a namespace holds is the sum over its rules, and what leaves.
ALTER TABLE rules ADD COLUMN groups INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rules ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
-- The labels up to which groups were made due since the rule learnt since when it has seen all records; absent: all.
ALTER TABLE rules ADD COLUMN woken TEXT;
UPDATE rules SET groups = (SELECT count(*) FROM groups g WHERE g.r = rules.r),
    bytes = (SELECT coalesce(sum(g.bytes), 0) FROM groups g WHERE g.r = rules.r);

-- Groups of rules that are gone or decide by something else now: they are forgotten in steps.
CREATE TABLE leaving (
    r         INTEGER PRIMARY KEY,       -- of their rows; no rule has it any more, or gets it before they are gone
    namespace TEXT NOT NULL,
    uid       TEXT NOT NULL,             -- whose they were
    state     TEXT,                      -- what decided them; absent where nobody is told that their alerts end
    since     INTEGER NOT NULL,          -- when
    groups    INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
) STRICT;
CREATE INDEX leaving_namespace ON leaving (namespace);
