//! Text for people and programs: tables, safe text for arbitrary bytes, times, sizes.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How far long work has come, for who looks at it on a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Work on so many bytes.
    pub(super) fn of_bytes(total: u64) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
        Progress(ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// It is more, or less, than was thought.
    pub(super) fn total(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    /// So many bytes are done in all,
    pub(super) fn reach(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// or so many more.
    pub(super) fn add(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// One column of a table.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) numeric: bool,
}

/// A column of text.
pub(super) const fn text(name: &'static str) -> Column {
    Column { name, numeric: false }
}

/// A column of numbers.
pub(super) const fn number(name: &'static str) -> Column {
    Column { name, numeric: true }
}

/// Prints a table: with a frame on a terminal, with nothing but spaces in a pipe.
pub(super) fn print_table(columns: &[Column], rows: &[Vec<String>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut table = Table::new();
    if out.is_terminal() {
        table.load_style(presets::UTF8_FULL_CONDENSED.with_rounded_corners());
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING).force_no_tty();
    }
    table.set_header(columns.iter().map(|column| Cell::new(column.name)));
    for row in rows {
        table.add_row(row.iter().zip(columns).map(|(value, column)| {
            let alignment = if column.numeric { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(value).set_alignment(alignment)
        }));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Bytes as text that no terminal misunderstands: what is not printable UTF-8 is escaped.
pub(super) fn safe_text(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => safe.push_str("\\\\"),
                letter if letter.is_control() => safe.extend(letter.escape_default()),
                // Marks that reorder or hide text.
                '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                    safe.extend(letter.escape_unicode());
                }
                letter => safe.push(letter),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(safe, "\\x{byte:02x}");
        }
    }
    safe
}

/// A number of bytes as a person says it.
pub(super) fn bytes_text(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes;
    let mut chosen = "B";
    for unit in units {
        chosen = unit;
        if value < 1000.0 || unit == "TB" {
            break;
        }
        value /= 1000.0;
    }
    if chosen == "B" { format!("{value:.0} B") } else { format!("{value:.1} {chosen}") }
}

/// A duration as a person says it.
pub(super) fn time_text(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    match millis {
        millis if millis < 10.0 => format!("{millis:.2} ms"),
        millis if millis < 1000.0 => format!("{millis:.1} ms"),
        millis => format!("{:.2} s", millis / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_stays_and_the_rest_is_escaped() {
        assert_eq!(safe_text("Grüße, 世界".as_bytes()), "Grüße, 世界");
        assert_eq!(safe_text(b"a\x1b[31m\n\\\xff\x00"), "a\\u{1b}[31m\\n\\\\\\xff\\u{0}");
        assert_eq!(safe_text("\u{202e}".as_bytes()), "\\u{202e}");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes_text(999.0), "999 B");
        assert_eq!(bytes_text(1_500_000.0), "1.5 MB");
        assert_eq!(bytes_text(9e18), "9000000.0 TB");
        assert_eq!(time_text(Duration::from_micros(1234)), "1.23 ms");
        assert_eq!(time_text(Duration::from_millis(2500)), "2.50 s");
    }

    proptest! {
        #[test]
        fn no_control_character_gets_through(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!safe_text(&bytes).chars().any(char::is_control));
        }
    }
}
