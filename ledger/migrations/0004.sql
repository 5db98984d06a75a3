-- The group's decided buckets as [number of the first one, its count, how many numbers later the next one is, its count, ...],
-- the number being the start in widths of the rule's buckets. Absent where the rule's condition needs the rows
-- themselves, and before the group is decided with this column for the first time: then all its rows are read.
ALTER TABLE groups ADD COLUMN window TEXT;
