//! The figures of logs over time, in a bounded number of cells: neighbours are put together when there are too many.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::{interval::Interval, latencies::LATENCY_MAX_NANOS};

/// The most cells. A chart has about twice as many pixels.
const CELLS_MAX: usize = 512;

/// Of the latencies of a cell. A cell has 37 kB with two digits, and 270 kB with three.
const DIGITS: u8 = 2;

/// The figures of several logs, which are added one after the other, over the time since each began.
#[derive(Debug)]
pub(super) struct Series {
    /// How much time a cell is for, in seconds.
    width: u64,
    /// By when they begin, in widths.
    cells: BTreeMap<u64, Cell>,
}

/// What all logs have within some time.
#[derive(Debug)]
pub(super) struct Cell {
    /// Of the intervals that begin within this time, in nanoseconds.
    latencies: Histogram<u64>,
    /// With all its digits.
    max: u64,
    /// Whether an interval begins within this time. Others may reach into it.
    has_intervals: bool,
    /// Messages, with a share of those of an interval that reaches into the next cell.
    messages: f64,
    /// How much of the time the finished logs cover; the longest counts.
    length: Duration,
    /// The same of the log that is being added.
    log_length: Duration,
}

impl Series {
    pub(super) const fn new() -> Self {
        Self { width: 1, cells: BTreeMap::new() }
    }

    /// The cell for the latencies of an interval.
    pub(super) fn cell(&mut self, start: Duration, length: Duration) -> &mut Cell {
        // So that an interval reaches into one more cell at most.
        while length > self.width() {
            self.coalesce();
        }
        let cell = self.cell_at(start);
        cell.has_intervals = true;
        cell
    }

    /// Adds an interval of the log that is being added, whose latencies its cell has.
    pub(super) fn add_interval(&mut self, start: Duration, length: Duration, messages: u64) {
        let messages = messages as f64;
        let end = start.saturating_add(length);
        // Making room for the second cell may make the first one wide enough.
        self.cell_at(end);
        let number = start.as_secs() / self.width;
        let next_begins = Duration::from_secs((number + 1).saturating_mul(self.width));
        let later = end.saturating_sub(next_begins);
        let share = if length.is_zero() { 0.0 } else { later.as_secs_f64() / length.as_secs_f64() };
        self.cell_at(start).cover(length - later, messages * (1.0 - share));
        if !later.is_zero() {
            self.cell_at(end).cover(later, messages * share);
        }
    }

    fn width(&self) -> Duration {
        Duration::from_secs(self.width)
    }

    fn cell_at(&mut self, time: Duration) -> &mut Cell {
        while self.is_full(time) {
            self.coalesce();
        }
        self.cells.entry(time.as_secs() / self.width).or_insert_with(Cell::new)
    }

    fn is_full(&self, time: Duration) -> bool {
        self.cells.len() >= CELLS_MAX && !self.cells.contains_key(&(time.as_secs() / self.width))
    }

    /// Doubles the width of the cells.
    fn coalesce(&mut self) {
        self.width = self.width.saturating_mul(2);
        for (number, cell) in std::mem::take(&mut self.cells) {
            match self.cells.get_mut(&(number / 2)) {
                Some(earlier) => earlier.append(&cell),
                None => {
                    self.cells.insert(number / 2, cell);
                }
            }
        }
    }

    /// The log that is being added is finished.
    pub(super) fn end_log(&mut self) {
        self.cells.values_mut().for_each(Cell::end_log);
    }

    /// The cells as intervals, from the first to the last.
    pub(super) fn intervals(&self) -> Vec<Interval> {
        let interval = |(number, cell): (&u64, &Cell)| cell.interval(number.saturating_mul(self.width));
        self.cells.iter().filter(|(_, cell)| cell.has_intervals).map(interval).collect()
    }
}

impl Cell {
    fn new() -> Self {
        Self {
            latencies: Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, DIGITS)
                .expect("the bounds are in order"),
            max: 0,
            has_intervals: false,
            messages: 0.0,
            length: Duration::ZERO,
            log_length: Duration::ZERO,
        }
    }

    pub(super) fn record(&mut self, nanos: u64, count: u64) {
        self.latencies.saturating_record_n(nanos, count);
        self.max = self.max.max(nanos.min(LATENCY_MAX_NANOS));
    }

    fn cover(&mut self, length: Duration, messages: f64) {
        self.log_length = self.log_length.saturating_add(length);
        self.messages += messages;
    }

    /// Takes up the cell that follows.
    fn append(&mut self, next: &Self) {
        self.latencies.add(&next.latencies).expect("the bounds of all cells are the same");
        self.max = self.max.max(next.max);
        self.has_intervals |= next.has_intervals;
        self.messages += next.messages;
        self.length = self.length.saturating_add(next.length);
        self.log_length = self.log_length.saturating_add(next.log_length);
    }

    fn end_log(&mut self) {
        self.length = self.length.max(std::mem::take(&mut self.log_length));
    }

    fn interval(&self, start_secs: u64) -> Interval {
        let rate = if self.length.is_zero() { 0.0 } else { self.messages / self.length.as_secs_f64() };
        Interval {
            start: Duration::from_secs(start_secs),
            length: self.length,
            messages: self.latencies.len(),
            bytes: None,
            rate,
            p50: self.latencies.value_at_quantile(0.5).min(self.max),
            p99: self.latencies.value_at_quantile(0.99).min(self.max),
            max: self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Adds a log with so many messages in each interval of this length.
    fn add_log(series: &mut Series, intervals: u32, length: Duration, messages: u64) {
        for number in 0..intervals {
            let start = number * length;
            series.cell(start, length).record(1_000, messages);
            series.add_interval(start, length, messages);
        }
        series.end_log();
    }

    #[track_caller]
    fn assert_close(rate: f64, expected: f64) {
        assert!((rate - expected).abs() < 1e-6, "{rate} instead of {expected}");
    }

    #[test]
    fn a_long_log_has_a_bounded_number_of_cells_and_loses_nothing() {
        let mut series = Series::new();
        add_log(&mut series, 10_000, SECOND, 10);
        add_log(&mut series, 5_000, SECOND, 30);
        assert!(series.cells.len() <= CELLS_MAX);
        let intervals = series.intervals();
        assert!(intervals.len() > CELLS_MAX / 3, "{}", intervals.len());
        let messages: u64 = intervals.iter().map(|interval| interval.messages).sum();
        assert_eq!(messages, 10_000 * 10 + 5_000 * 30);
        assert_close(intervals[0].rate, 40.0);
        assert_close(intervals[intervals.len() - 1].rate, 10.0);
        let covered: Duration = intervals.iter().map(|interval| interval.length).sum();
        assert_eq!(covered, Duration::from_secs(10_000));
    }

    #[test]
    fn times_that_lie_far_apart_are_put_together_too() {
        let mut series = Series::new();
        let times = 2 * CELLS_MAX as u64;
        for start in (0..times).map(|number| Duration::from_secs(number * 900_000_007)) {
            series.cell(start, SECOND).record(5, 1);
            series.add_interval(start, SECOND, 1);
        }
        series.end_log();
        assert!(series.cells.len() <= CELLS_MAX);
        assert_eq!(series.intervals().iter().map(|interval| interval.messages).sum::<u64>(), times);
    }

    #[test]
    fn rates_of_logs_with_intervals_of_other_lengths_add_up() {
        let mut series = Series::new();
        add_log(&mut series, 4, 5 * SECOND, 500);
        add_log(&mut series, 20, SECOND, 100);
        add_log(&mut series, 200, SECOND / 10, 10);
        let intervals = series.intervals();
        assert_eq!(intervals.len(), 3);
        intervals.iter().for_each(|interval| assert_close(interval.rate, 300.0));
    }

    #[test]
    fn intervals_that_drift_away_from_whole_seconds_draw_no_spikes() {
        let mut series = Series::new();
        let length = Duration::from_millis(1_020);
        add_log(&mut series, 100, length, 102);
        series.intervals().iter().for_each(|interval| assert_close(interval.rate, 100.0));
    }

    #[test]
    fn a_cell_knows_its_longest_latency_exactly() {
        let mut series = Series::new();
        series.cell(Duration::ZERO, SECOND).record(1_234_567, 1);
        series.end_log();
        let interval = series.intervals()[0];
        assert_eq!((interval.p50, interval.max), (1_234_567, 1_234_567));
    }
}
