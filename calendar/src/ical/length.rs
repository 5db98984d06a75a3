//! How long an event lasts: DTEND and DURATION (RFC 5545, sections 3.6.1, 3.8.2.2 and 3.8.2.5).
//!
//! No time is lost: if the two contradict each other, the longer one applies, with a remark.

use jiff::civil::Time;

use super::Remark;
use super::component::Component;
use super::lines::ContentLine;
use super::value::{DaysAndSeconds, IcalDuration, when};
use super::when::{ClockTime, EventClock, as_written, refuse, unreadable};

impl EventClock<'_, '_> {
    /// The length of an event that begins at `start`.
    pub(super) fn length(&mut self, event: &Component, start: ClockTime) -> Result<DaysAndSeconds, Remark> {
        let duration = event.first("DURATION").map(|line| Ok((line, self.duration(line)?))).transpose()?;
        let end = event.first("DTEND").map(|line| Ok((line, self.until(line, start)?))).transpose()?;
        let (line, by_end, by_duration) = match (end, duration) {
            (None, None) => return Ok(if self.all_day { (1, 0) } else { (0, 0) }),
            (Some((_, length)), None) | (None, Some((_, length))) => return Ok(length),
            (Some((line, by_end)), Some((_, by_duration))) => (line, by_end, by_duration),
        };
        let [till_end, till_duration] = [by_end, by_duration].map(|length| self.seconds(start, length));
        if till_end == till_duration {
            return Ok(by_duration);
        }
        let (which, length) =
            if till_end > till_duration { ("DTEND", by_end) } else { ("DURATION", by_duration) };
        let text = format!("DTEND: another end than by DURATION: {which} is taken, which is later");
        self.remark(line.number, text);
        Ok(length)
    }

    fn duration(&self, line: &ContentLine) -> Result<DaysAndSeconds, Remark> {
        let span = IcalDuration::read(&line.value).filter(|span| span.total() >= 0);
        let Some(span) = span else {
            return refuse(line, "not allowed; allowed is a length such as PT1H30M or P1D");
        };
        if !self.all_day {
            return Ok((span.days.into(), span.seconds));
        }
        if span.seconds % 86_400 != 0 || span.total() == 0 {
            return refuse(line, "allowed are whole days where DTSTART is a date");
        }
        Ok((span.total() / 86_400, 0))
    }

    /// The length from `start` to DTEND.
    fn until(&mut self, line: &ContentLine, start: ClockTime) -> Result<DaysAndSeconds, Remark> {
        if let ClockTime::Day(start) = start {
            let Some(value) = when(&line.value) else { return refuse(line, unreadable(&line.value)) };
            let (date, time) = as_written(value);
            let days = start.until(date).map_or(-1, |span| i64::from(span.get_days()));
            if days < 0 {
                return refuse(line, "it lies before DTSTART");
            }
            if time != Time::midnight() {
                let text = format!("DTEND: a time, where DTSTART is a date: taken to the end of {date}");
                self.remark(line.number, text);
                return Ok((days + 1, 0));
            }
            if days == 0 {
                let text = "DTEND: the day of DTSTART, which has no length: taken as one day";
                self.remark(line.number, text);
            }
            return Ok((days.max(1), 0));
        }
        let end = self.read_value(line, &line.value)?;
        if let ClockTime::Day(_) = end {
            return refuse(line, "a date, where DTSTART has a time");
        }
        let Some((start, end)) = self.instant(start).zip(self.instant(end)) else {
            return refuse(line, "out of range");
        };
        let seconds = end.as_second() - start.as_second();
        if seconds < 0 { refuse(line, "it lies before DTSTART") } else { Ok((0, seconds)) }
    }

    /// The seconds that a length takes from `start` on: a day ends at the same time of day.
    pub(super) fn seconds(&self, start: ClockTime, (days, seconds): DaysAndSeconds) -> i64 {
        let far = || {
            let ClockTime::Local(local) = start else { return None };
            let to = local.checked_add(jiff::Span::new().try_days(days).ok()?).ok()?;
            Some(self.instant(ClockTime::Local(to))?.as_second() - self.instant(start)?.as_second())
        };
        far().unwrap_or(days * 86_400) + seconds
    }
}
