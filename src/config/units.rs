//! Values that carry units: `"250ms"`, `"64MiB"`, `"3@1/s"`, times with an offset.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock::UnixMs;

/// A span of time, written `"250ms"`, `"10s"`, `"5m"`, `"1h"` or `"0"`. At most 1,000 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Milliseconds.
    pub ms: u64,
}

/// A number of bytes, written `"16KiB"`, `"64MiB"`, `"2GiB"` or `"512B"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
}

/// A rate with a burst, written `"burst@rate/s"`: `"3@1/s"` allows 3 at once and 1 a second on
/// average. `"off"` allows everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many may come at once; 0 is `off`.
    pub burst: u32,
    /// How many a second on average, in thousandths.
    pub per_1000s: u32,
}

/// A point in time with an offset: a TOML date-time such as `2026-12-01T20:00:00+08:00`, or the same
/// as a string in JSON. A time without an offset is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// The instant.
    pub at: UnixMs,
}

/// Why a value with a unit was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUnit {
    /// Not a duration.
    #[error("not a duration: write a number with ms, s, m or h, like \"250ms\"")]
    Span,
    /// Not a size.
    #[error("not a size: write a number with B, KiB, MiB or GiB, like \"64MiB\"")]
    Size,
    /// Not a rate.
    #[error("not a rate: write burst@rate/s, like \"3@1/s\", or \"off\"")]
    Rate,
    /// Not a time with an offset.
    #[error("not a time: write it with its offset, like 2026-12-01T20:00:00+08:00")]
    Time,
}

impl Span {
    /// `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Span {
        Span { ms }
    }

    /// `secs` seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span { ms: secs * 1000 }
    }

    /// As the standard library's type.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.ms)
    }
}

impl Size {
    /// `kib` times 1,024 bytes.
    pub const fn from_kib(kib: u64) -> Size {
        Size { bytes: kib << 10 }
    }

    /// `mib` times 1,048,576 bytes.
    pub const fn from_mib(mib: u64) -> Size {
        Size { bytes: mib << 20 }
    }

    /// As a length in memory, saturating.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }
}

impl Rate {
    /// A burst and a number a second.
    pub const fn new(burst: u32, per_s: u32) -> Rate {
        Rate { burst, per_1000s: per_s * 1000 }
    }

    /// Whether everything is allowed.
    pub fn is_off(self) -> bool {
        self.burst == 0
    }
}

/// Splits `"250ms"` into 250 and `"ms"`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

impl FromStr for Span {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Span, BadUnit> {
        let (number, unit) = number_and_unit(text).ok_or(BadUnit::Span)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if number == 0 => 0,
            _ => return Err(BadUnit::Span),
        };
        let ms = number.checked_mul(factor).ok_or(BadUnit::Span)?;
        if ms <= 1_000 * 86_400_000 { Ok(Span { ms }) } else { Err(BadUnit::Span) }
    }
}

impl FromStr for Size {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Size, BadUnit> {
        let (number, unit) = number_and_unit(text).ok_or(BadUnit::Size)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(BadUnit::Size),
        };
        number.checked_mul(1 << shift).map(|bytes| Size { bytes }).ok_or(BadUnit::Size)
    }
}

impl FromStr for Rate {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Rate, BadUnit> {
        if text == "off" {
            return Ok(Rate { burst: 0, per_1000s: 0 });
        }
        let (burst, rate) = text.split_once('@').ok_or(BadUnit::Rate)?;
        let (number, unit) = rate.split_once('/').ok_or(BadUnit::Rate)?;
        let burst: u32 = burst.parse().map_err(|_| BadUnit::Rate)?;
        let number: u64 = number.parse().map_err(|_| BadUnit::Rate)?;
        let per_1000s = match unit {
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(1000).map(|n| n / 60),
            _ => None,
        };
        let per_1000s = per_1000s.and_then(|n| u32::try_from(n).ok()).ok_or(BadUnit::Rate)?;
        if burst == 0 || per_1000s == 0 {
            return Err(BadUnit::Rate);
        }
        Ok(Rate { burst, per_1000s })
    }
}

impl FromStr for Time {
    type Err = BadUnit;
    fn from_str(text: &str) -> Result<Time, BadUnit> {
        let stamp: jiff::Timestamp = text.parse().map_err(|_| BadUnit::Time)?;
        let ms = u64::try_from(stamp.as_millisecond()).map_err(|_| BadUnit::Time)?;
        Ok(Time { at: UnixMs(ms) })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, units) =
            (self.ms, [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]);
        match units.iter().find(|(n, _)| ms != 0 && ms % n == 0) {
            Some((n, unit)) => write!(f, "{}{unit}", ms / n),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(s, _)| self.bytes != 0 && self.bytes.trailing_zeros() >= *s) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.bytes >> shift),
            None => write!(f, "{}B", self.bytes),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Rate { burst: 0, .. } => f.write_str("off"),
            Rate { burst, per_1000s } if per_1000s % 1000 == 0 => {
                write!(f, "{burst}@{}/s", per_1000s / 1000)
            }
            Rate { burst, per_1000s } => {
                write!(f, "{burst}@{}/m", (u64::from(per_1000s) * 60).div_ceil(1000))
            }
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.at.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(stamp) => write!(f, "{stamp}"),
            Err(_) => write!(f, "{ms}ms"),
        }
    }
}

macro_rules! text_value {
    ($($type:ident, $format:literal, $example:literal;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "examples": [$example] })
            }
        }
    )*};
}

text_value! {
    Span, "duration", "250ms";
    Size, "size", "64MiB";
    Rate, "rate", "3@1/s";
    Time, "date-time", "2026-12-01T20:00:00+08:00";
}

macro_rules! from_text {
    ($($type:ident)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<$type, D::Error> {
                <Cow<'de, str>>::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

from_text! { Span Size Rate }

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Time, D::Error> {
        /// TOML hands a date-time over as its own type, JSON as a string.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Toml(toml::value::Datetime),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Toml(time) => time.to_string().parse(),
            Form::Text(text) => text.parse(),
        }
        .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_as_they_were_written() {
        for text in ["250ms", "10s", "5m", "1h", "2d", "1500ms"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["512B", "16KiB", "64MiB", "2GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["3@1/s", "100@50/s", "2@10/m", "off"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn values_without_units_or_with_odd_ones_are_refused() {
        for text in ["", "10", "s", "-1s", "10 weeks", "99999999999h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "10", "10KB", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["", "3", "0@1/s", "3@0/s", "3@1/h"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_needs_its_offset() {
        let time: Time = "2026-12-01T20:00:00+08:00".parse().unwrap();
        assert_eq!(time.at, UnixMs(1_796_126_400_000));
        assert!("2026-12-01T20:00:00".parse::<Time>().is_err());
    }
}
