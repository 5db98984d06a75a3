-- The boundary since which a group's condition holds, while it has not held as long as `for` says, Unix ms.
ALTER TABLE groups ADD COLUMN pending INTEGER;
CREATE INDEX groups_pending ON groups (r) WHERE pending IS NOT NULL;
