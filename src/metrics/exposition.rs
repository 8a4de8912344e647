//! Metrics as text: OpenMetrics 1.0, or Prometheus' own older format (0.0.4) for whoever does not ask for the other.

use super::counter::{Counter, Gauge};
use super::histogram::Histogram;
use std::fmt::Write as _;

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Format {
    /// The format that an `Accept` header asks for.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Format {
        match accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// What it is called in a `Content-Type` header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What kind of number a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grows from 0 at the start; its samples end in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Is always 1: what it says is in its labels. Its sample ends in `_info`.
    Info,
}

/// The unit in which a family's values are; the family's name ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Plain numbers.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// Something that is told: samples of one name that differ in their labels.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    labels: &'static [&'static str],
}

impl Family {
    /// A family of counters.
    #[must_use]
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Family {
        Family { name, kind: Kind::Counter, unit, help, labels: &[] }
    }

    /// A family of gauges.
    #[must_use]
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Family {
        Family { name, kind: Kind::Gauge, unit, help, labels: &[] }
    }

    /// A family of histograms.
    #[must_use]
    pub const fn histogram(name: &'static str, unit: Unit, help: &'static str) -> Family {
        Family { name, kind: Kind::Histogram, unit, help, labels: &[] }
    }

    /// A family that says something in words.
    #[must_use]
    pub const fn info(name: &'static str, help: &'static str) -> Family {
        Family { name, kind: Kind::Info, unit: Unit::None, help, labels: &[] }
    }

    /// The same, with samples that differ in these labels.
    #[must_use]
    pub const fn by(self, labels: &'static [&'static str]) -> Family {
        Family { labels, ..self }
    }

    /// The name, without what a kind of sample adds to it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What kind of number it has.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The labels in which its samples differ.
    #[must_use]
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// What it says.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help
    }
}

impl Unit {
    fn name(self) -> Option<&'static str> {
        match self {
            Unit::None => None,
            Unit::Bytes => Some("bytes"),
            Unit::Seconds => Some("seconds"),
        }
    }
}

/// Metrics as text, in the making.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
    families: Vec<&'static Family>,
}

/// Room for an ordinary answer.
const CAPACITY: usize = 64 << 10;

impl Exposition {
    /// Nothing yet.
    #[must_use]
    pub fn new(format: Format) -> Exposition {
        Exposition { format, text: String::with_capacity(CAPACITY), families: Vec::new() }
    }

    /// Begins a family, which is said even if it has no samples. Each family once.
    pub fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let Family { name, kind, unit, help, .. } = family;
        self.families.push(family);
        debug_assert!(unit.name().is_none_or(|unit| name.ends_with(unit)), "{name} must end with its unit");
        let (name, kind) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => ((*name).to_owned(), "counter"),
            (Format::Prometheus, Kind::Counter) => (format!("{name}_total"), "counter"),
            (_, Kind::Gauge) => ((*name).to_owned(), "gauge"),
            (_, Kind::Histogram) => ((*name).to_owned(), "histogram"),
            (Format::OpenMetrics, Kind::Info) => ((*name).to_owned(), "info"),
            (Format::Prometheus, Kind::Info) => (format!("{name}_info"), "gauge"),
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit.name()) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {help}");
        Samples { text: &mut self.text, family }
    }

    /// A family with one counter.
    pub fn counter(&mut self, family: &'static Family, counter: &Counter) {
        self.family(family).value(&[], counter.get());
    }

    /// A family with one gauge.
    pub fn gauge(&mut self, family: &'static Family, gauge: &Gauge) {
        self.family(family).value(&[], gauge.get());
    }

    /// A family with one histogram.
    pub fn histogram(&mut self, family: &'static Family, histogram: &Histogram) {
        self.family(family).histogram(&[], histogram);
    }

    /// The families so far.
    #[must_use]
    pub fn families(&self) -> &[&'static Family] {
        &self.families
    }

    /// The text.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// A label's name and its value.
pub type Label<'l> = (&'static str, &'l str);

/// Writes the samples of one family.
#[derive(Debug)]
pub struct Samples<'e> {
    text: &'e mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// One sample. No two have the same labels.
    pub fn value(&mut self, labels: &[Label<'_>], value: u64) {
        self.sample(self.suffix(), labels, None, &value.to_string());
    }

    /// One sample that is no whole number.
    pub fn number(&mut self, labels: &[Label<'_>], value: f64) {
        self.sample(self.suffix(), labels, None, &value.to_string());
    }

    /// A histogram's samples.
    pub fn histogram(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        let mut count = 0;
        for (bound, below) in histogram.cumulative() {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.sample("_bucket", labels, Some(&bound), &below.to_string());
            count = below;
        }
        self.sample("_sum", labels, None, &histogram.sum().to_string());
        self.sample("_count", labels, None, &count.to_string());
    }

    fn suffix(&self) -> &'static str {
        match self.family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    fn sample(&mut self, suffix: &str, labels: &[Label<'_>], bound: Option<&str>, value: &str) {
        debug_assert!(
            labels.iter().map(|(name, _)| name).eq(self.family.labels),
            "{}: {labels:?}",
            self.family.name
        );
        let _ = write!(self.text, "{}{suffix}", self.family.name);
        let bound = bound.map(|bound| ("le", bound));
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            let _ = write!(self.text, "{before}{name}=\"");
            escape(self.text, value);
            self.text.push('"');
            before = ',';
        }
        let end = if before == ',' { "} " } else { " " };
        let _ = writeln!(self.text, "{end}{value}");
    }
}

/// What people choose, such as names of groups, as a label's value.
fn escape(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::SIZES;

    static READ: Family = Family::counter("toy_read_bytes", Unit::Bytes, "What was read.").by(&["by", "of"]);
    static OPEN: Family = Family::gauge("toy_open", Unit::None, "What is open.");
    static SIZE: Family = Family::histogram("toy_size_bytes", Unit::Bytes, "How large it was.");
    static BUILD: Family = Family::info("toy", "What runs.").by(&["version"]);

    fn toy(format: Format) -> String {
        let mut out = Exposition::new(format);
        let mut samples = out.family(&READ);
        samples.value(&[("by", "a\"b\\c\nd"), ("of", "")], 3);
        samples.value(&[("by", "e"), ("of", "f")], 4);
        out.family(&OPEN);
        let sizes = Histogram::new(&SIZES);
        sizes.observe(5000);
        out.histogram(&SIZE, &sizes);
        out.family(&BUILD).value(&[("version", "1")], 1);
        out.finish()
    }

    #[test]
    fn openmetrics_is_told_as_its_specification_says() {
        let text = toy(Format::OpenMetrics);
        let begin = "# TYPE toy_read_bytes counter\n# UNIT toy_read_bytes bytes\n# HELP toy_read_bytes What was read.\n\
                     toy_read_bytes_total{by=\"a\\\"b\\\\c\\nd\",of=\"\"} 3\ntoy_read_bytes_total{by=\"e\",of=\"f\"} 4\n\
                     # TYPE toy_open gauge\n# HELP toy_open What is open.\n# TYPE toy_size_bytes histogram\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(
            text.contains("toy_size_bytes_bucket{le=\"4096\"} 0\ntoy_size_bytes_bucket{le=\"16384\"} 1\n"),
            "{text}"
        );
        let end = "toy_size_bytes_bucket{le=\"+Inf\"} 1\ntoy_size_bytes_sum 5000\ntoy_size_bytes_count 1\n\
                   # TYPE toy info\n# HELP toy What runs.\ntoy_info{version=\"1\"} 1\n# EOF\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_older_format_has_the_whole_name_in_its_comments() {
        let text = toy(Format::Prometheus);
        assert!(
            text.starts_with("# TYPE toy_read_bytes_total counter\n# HELP toy_read_bytes_total What"),
            "{text}"
        );
        assert!(
            text.ends_with("# TYPE toy_info gauge\n# HELP toy_info What runs.\ntoy_info{version=\"1\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn who_does_not_ask_for_openmetrics_does_not_get_it() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
        assert_eq!(Format::accepted(Some("*/*")), Format::Prometheus);
        assert_eq!(Format::accepted(None), Format::Prometheus);
    }
}
