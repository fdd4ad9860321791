//! Conditions under which `bench` and `report` fail, such as `p99>5ms`.

use std::{process::ExitCode, str::FromStr};

use clap::Args;
use indicatif::HumanCount;

use super::{clock, measure::latencies::Latencies, rate::Rate, units};
use crate::cli::failure::Failure;

const FORMS: &str = "write it like 'p99>5ms', 'max>=1s', 'rate<10k/s' or 'failures>0'";

/// The argument for conditions of `bench` and `report`.
#[derive(Debug, Args)]
pub(crate) struct ConditionArgs {
    /// Exit with status 1 if this holds, such as 'p99>5ms'
    ///
    /// It compares a percentile of latency, max, rate or failures, with <, <=, > or >=: 'p99.9>=5ms', 'max>1s', 'rate<10k/s'
    /// or 'failures>0'. Can be given several times.
    #[arg(long, value_name = "CONDITION")]
    pub(crate) fail_if: Vec<Condition>,
}

/// What conditions are about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures<'a> {
    /// Of messages, from when they were due.
    pub(crate) latency: &'a Latencies,
    /// Messages per second.
    pub(crate) rate: f64,
    /// Connections that failed; `None` if that is unknown.
    pub(crate) failures: Option<u64>,
}

/// A figure, and the values for which it is taken as a failure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    /// As it was written.
    text: String,
    /// What the figure is called.
    name: String,
    limit: Limit,
    comparison: Comparison,
}

/// A figure, and the value that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// The latency at this quantile, in nanoseconds.
    Quantile {
        quantile: f64,
        nanos: u64,
    },
    Rate(Rate),
    Failures(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Condition {
    /// If the condition holds: itself, and the figure that makes it hold. What is unknown is not good: a condition
    /// about it holds too.
    fn reason(&self, figures: &Figures<'_>) -> Option<String> {
        let (holds, value) = match &self.limit {
            Limit::Quantile { .. } if figures.latency.is_empty() => {
                (true, "unknown, as no message was measured".to_owned())
            }
            Limit::Quantile { quantile, nanos } => {
                let value = figures.latency.value_at_quantile(*quantile);
                (self.comparison.holds(&value, nanos), units::latency(value))
            }
            Limit::Rate(limit) => {
                let holds = self.comparison.holds(&figures.rate, &limit.per_second());
                (holds, format!("{}/s", units::number(figures.rate)))
            }
            Limit::Failures(limit) => match &figures.failures {
                Some(failures) => (self.comparison.holds(failures, limit), HumanCount(*failures).to_string()),
                None => (true, "unknown".to_owned()),
            },
        };
        holds.then(|| format!("{}: {} is {value}", self.text, self.name))
    }
}

/// Why the command is to fail: the conditions that hold, with the figures that make them hold.
pub(crate) fn reasons(conditions: &[Condition], figures: &Figures<'_>) -> Vec<String> {
    conditions.iter().filter_map(|condition| condition.reason(figures)).collect()
}

/// Success if there is no reason to fail.
pub(crate) fn verdict(reasons: Vec<String>) -> Result<ExitCode, Failure> {
    if reasons.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::new(reasons.join("; "))) }
}

impl Comparison {
    fn holds<T: PartialOrd>(self, value: &T, limit: &T) -> bool {
        match self {
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
        }
    }
}

impl FromStr for Condition {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = text.find(['<', '>']).ok_or(FORMS)?;
        let (name, rest) = text.split_at(at);
        let (comparison, value) = match (rest.strip_prefix("<="), rest.strip_prefix(">=")) {
            (Some(value), _) => (Comparison::LessOrEqual, value),
            (_, Some(value)) => (Comparison::GreaterOrEqual, value),
            (None, None) if rest.starts_with('<') => (Comparison::Less, &rest[1..]),
            (None, None) => (Comparison::Greater, &rest[1..]),
        };
        let name = name.trim();
        let limit = Limit::parse(name, value.trim()).ok_or(FORMS)?;
        Ok(Self { text: text.trim().to_owned(), name: name.to_owned(), limit, comparison })
    }
}

impl Limit {
    fn parse(name: &str, value: &str) -> Option<Self> {
        match name {
            "rate" => value.parse().ok().map(Self::Rate),
            "failures" => value.parse().ok().map(Self::Failures),
            latency => {
                let nanos = clock::nanos(humantime::parse_duration(value).ok()?);
                Some(Self::Quantile { quantile: quantile(latency)?, nanos })
            }
        }
    }
}

/// The quantile of `max` or of a percentile such as `p99.9`.
fn quantile(name: &str) -> Option<f64> {
    if name == "max" {
        return Some(1.0);
    }
    let percentile = name.strip_prefix('p')?;
    let is_plain = percentile.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = percentile.parse().ok()?;
    (is_plain && percent < 100.0).then_some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::bench::measure::latencies;

    fn reasons_of(condition: &str, figures: &Figures<'_>) -> Vec<String> {
        reasons(&[condition.parse().unwrap()], figures)
    }

    #[test]
    fn a_condition_holds_with_the_figure_that_makes_it_hold() {
        let mut latency = latencies::empty();
        (1..=1_000).for_each(|millis| latency.record(millis * 1_000_000).unwrap());
        let figures = Figures { latency: &latency, rate: 9_000.0, failures: Some(2) };
        for (condition, reason) in [
            ("p99>500ms", Some("p99>500ms: p99 is 990 ms")),
            ("p99 >= 2s", None),
            ("p50 < 1s", Some("p50 < 1s: p50 is 500 ms")),
            ("p99.99>999ms", Some("p99.99>999ms: p99.99 is 1 s")),
            ("max<=1m", Some("max<=1m: max is 1 s")),
            ("max>2s", None),
            ("rate<10k/s", Some("rate<10k/s: rate is 9,000/s")),
            ("rate<9k", None),
            ("rate<=9k", Some("rate<=9k: rate is 9,000/s")),
            ("failures>0", Some("failures>0: failures is 2")),
            ("failures>=3", None),
        ] {
            let expected: Vec<_> = reason.into_iter().map(str::to_owned).collect();
            assert_eq!(reasons_of(condition, &figures), expected, "{condition}");
        }
    }

    #[test]
    fn what_is_unknown_is_not_good() {
        let mut figures = Figures { latency: &latencies::empty(), rate: 0.0, failures: None };
        for condition in ["p99>1h", "p50<1ms", "max>1s", "failures>0"] {
            assert_eq!(reasons_of(condition, &figures).len(), 1, "{condition}");
        }
        figures.failures = Some(0);
        assert!(reasons_of("failures>0", &figures).is_empty());
    }

    #[test]
    fn what_is_understood_is_said() {
        for text in
            ["p99", ">5ms", "p99>", "p99>5", "p100>1s", "p>1s", "p-1>1s", "rate<1ms", "p99<<1s", "failures>x"]
        {
            assert_eq!(text.parse::<Condition>(), Err(FORMS), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".{0,20}|(p[0-9.]{0,5}|max|rate|failures)[<>]=?.{0,10}") {
            let _ = text.parse::<Condition>();
        }
    }
}
