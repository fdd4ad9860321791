//! How lines on stderr are written: as text, or one JSON object each.

use std::ffi::OsString;

use clap::ValueEnum;
use log::{
    Level, Record,
    kv::{self, Key, Value, VisitSource, VisitValue},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::bench::clock;

/// How lines on stderr are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl LogFormat {
    /// What arguments that are wrong ask for.
    pub(crate) fn asked_for(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let is_json = arguments.iter().any(|argument| argument == "--log-format=json")
            || arguments.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
        if is_json { Self::Json } else { Self::Text }
    }

    /// A line, with its end, that is no record of the logger: always shown, whatever `RUST_LOG` says.
    pub(crate) fn line(self, level: Level, message: &str) -> String {
        match self {
            Self::Text if level == Level::Error => format!("error: {message}\n"),
            Self::Text => format!("{message}\n"),
            Self::Json => {
                let mut record = Record::builder();
                record.level(level).target("echoloop");
                // Not in a variable of its own: Rust 1.88 would drop it too early.
                object(&record.args(format_args!("{message}")).build())
            }
        }
    }
}

/// A record as one JSON object in one line: time, level, target, message, then its fields.
pub(crate) fn object(record: &Record<'_>) -> String {
    let time = humantime::format_rfc3339_millis(clock::time_of_day());
    let object = Object { time: time.to_string(), record };
    // Nothing in it can fail: its keys are strings, its values text and numbers.
    let mut line = serde_json::to_string(&object).unwrap_or_default();
    line.push('\n');
    line
}

struct Object<'a> {
    time: String,
    record: &'a Record<'a>,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &self.time)?;
        map.serialize_entry("level", self.record.level().as_str())?;
        map.serialize_entry("target", self.record.target())?;
        map.serialize_entry("message", &self.record.args())?;
        let mut fields = Fields { map: &mut map, outcome: Ok(()) };
        // It only fails after the map has.
        let _ = self.record.key_values().visit(&mut fields);
        fields.outcome?;
        map.end()
    }
}

/// The fields of a record, as they go into the object.
struct Fields<'a, M: SerializeMap> {
    map: &'a mut M,
    outcome: Result<(), M::Error>,
}

impl<'kvs, M: SerializeMap> VisitSource<'kvs> for Fields<'_, M> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let mut field = Field { name: key.as_str(), map: &mut *self.map, outcome: Ok(()) };
        value.visit(&mut field)?;
        self.outcome = field.outcome;
        if self.outcome.is_ok() { Ok(()) } else { Err(kv::Error::msg("the line cannot be written")) }
    }
}

/// One of them: a number, true or false, or else text. One without a value is left out.
struct Field<'a, M: SerializeMap> {
    name: &'a str,
    map: &'a mut M,
    outcome: Result<(), M::Error>,
}

impl<M: SerializeMap> Field<'_, M> {
    fn write(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), kv::Error> {
        self.outcome = self.map.serialize_entry(self.name, value);
        Ok(())
    }
}

impl<'v, M: SerializeMap> VisitValue<'v> for Field<'_, M> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        self.write(&value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.write(&value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.write(&value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.write(&value)
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.write(&value)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.write(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> serde_json::Value {
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_record_is_one_object_with_its_fields_as_what_they_are() {
        let fields: [(&str, Value<'_>); 5] = [
            ("peer", Value::from("[::1]:9")),
            ("bytes", Value::from(u64::MAX)),
            ("seconds", Value::from(0.25)),
            ("complete", Value::from(true)),
            ("unknown", Value::null()),
        ];
        let message = "two\nlines, \"quoted\" \u{7}";
        let line = object(
            &Record::builder()
                .level(Level::Warn)
                .target("echoloop::x")
                .args(format_args!("{message}"))
                .key_values(&fields)
                .build(),
        );
        let object = parsed(&line);
        assert_eq!(object["message"], message);
        assert_eq!((&object["level"], &object["target"]), (&"WARN".into(), &"echoloop::x".into()));
        assert_eq!(object["peer"], "[::1]:9");
        assert_eq!(object["bytes"], u64::MAX);
        assert_eq!(object["seconds"], 0.25);
        assert_eq!(object["complete"], true);
        assert_eq!(object.get("unknown"), None);
        let time = object["time"].as_str().unwrap();
        assert!(time.len() == 24 && humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert!(line.starts_with("{\"time\":"), "people read it too: {line}");
    }

    #[test]
    fn other_lines_are_objects_too_or_as_they_are() {
        assert_eq!(LogFormat::Text.line(Level::Info, "Bytes sent: 5"), "Bytes sent: 5\n");
        assert_eq!(LogFormat::Text.line(Level::Error, "no"), "error: no\n");
        let object = parsed(&LogFormat::Json.line(Level::Error, "no"));
        assert_eq!((&object["level"], &object["message"]), (&"ERROR".into(), &"no".into()));
    }

    #[test]
    fn arguments_that_are_wrong_still_say_the_format() {
        let asked_for = |line: &str| LogFormat::asked_for(line.split(' ').map(OsString::from));
        assert_eq!(asked_for("serve --log-format json --no"), LogFormat::Json);
        assert_eq!(asked_for("serve --no --log-format=json"), LogFormat::Json);
        for text in ["serve --no", "serve --log-format", "serve --log-format xml json", "serve json"] {
            assert_eq!(asked_for(text), LogFormat::Text);
        }
    }
}
