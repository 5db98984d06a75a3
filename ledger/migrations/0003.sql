-- Occurrences that a change of the clocks shifted, left out or doubled, ever.
ALTER TABLE schedules ADD COLUMN clock_shifted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN clock_skipped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN clock_doubled INTEGER NOT NULL DEFAULT 0;
