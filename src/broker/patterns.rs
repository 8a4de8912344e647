//! Regular expressions that clients send: in the syntax of RE2, which takes time in proportion to what it reads, within
//! limits on their length and on what they compile to.

use super::limits::{PATTERN_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX, TOPIC_PATTERN_COMPILED_BYTES_MAX};
use regex::{Regex, RegexBuilder, bytes};

/// Why a pattern is refused, and what may be done about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPattern {
    /// It is longer than any name.
    #[error("the regular expression has {0} bytes, and at most {PATTERN_BYTES_MAX} are allowed: shorten it")]
    Long(usize),
    /// It is none, or it is nested too deeply.
    #[error("this is no regular expression: {0}")]
    Syntax(String),
    /// What it compiles to is too large.
    #[error("the regular expression needs more than {0} bytes: repeat less, or name fewer alternatives")]
    Large(usize),
}

impl From<regex::Error> for BadPattern {
    fn from(error: regex::Error) -> BadPattern {
        match error {
            regex::Error::CompiledTooBig(limit) => BadPattern::Large(limit),
            // Its last line says what is wrong; those before repeat the pattern, which may have any number of lines.
            other => {
                let text = other.to_string();
                let last = text.lines().next_back().unwrap_or_default();
                BadPattern::Syntax(last.trim_start_matches("error: ").to_owned())
            }
        }
    }
}

/// A pattern that must match the whole of a text.
pub(super) fn whole(pattern: &str) -> Result<Regex, BadPattern> {
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_COMPILED_BYTES_MAX).build();
    anchored(pattern, build)
}

/// A pattern that must match the whole of a topic's name.
#[derive(Debug)]
pub(super) struct TopicPattern(bytes::Regex);

impl TopicPattern {
    /// `\w` and its like mean ASCII, as in RE2: names of topics have nothing else. Only a pattern that asks for more (`\pL`)
    /// gets it.
    pub(super) fn new(pattern: &str) -> Result<TopicPattern, BadPattern> {
        let build = |unicode: bool| {
            move |pattern: &str| {
                let mut builder = bytes::RegexBuilder::new(pattern);
                builder.unicode(unicode).size_limit(TOPIC_PATTERN_COMPILED_BYTES_MAX).build()
            }
        };
        match anchored(pattern, build(false)) {
            Err(BadPattern::Syntax(_)) => anchored(pattern, build(true)),
            ascii => ascii,
        }
        .map(TopicPattern)
    }

    /// Whether the whole of `name` matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }
}

fn anchored<R>(pattern: &str, build: impl Fn(&str) -> Result<R, regex::Error>) -> Result<R, BadPattern> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(BadPattern::Long(pattern.len()));
    }
    // Compiled once as it is, so that the anchors cannot repair one that is no pattern by itself.
    build(pattern)?;
    Ok(build(&format!(r"\A(?:{pattern})\z"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_whole_text_is_matched() {
        let text = whole("pay|orders-.*").unwrap();
        let name = TopicPattern::new("pay|orders-.*").unwrap();
        for (matches, expected) in
            [("pay", true), ("orders-eu", true), ("payments", false), ("new-orders-eu", false)]
        {
            assert_eq!((text.is_match(matches), name.matches(matches)), (expected, expected), "{matches}");
        }
    }

    #[test]
    fn names_of_topics_are_ascii_and_patterns_of_them_may_say_more() {
        assert!(TopicPattern::new(r"\w{50,200}").unwrap().matches(&"t_9".repeat(20)));
        assert!(TopicPattern::new(r"\pL+-\pN+").unwrap().matches("orders-7"));
        assert!(!TopicPattern::new("größe|.").unwrap().matches("ab"));
    }

    #[test]
    fn what_is_no_pattern_or_a_hostile_one_is_refused() {
        let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")*".repeat(depth));
        let (long, deep) = ("a".repeat(PATTERN_BYTES_MAX + 1), nested(1_000));
        for (hostile, says) in [
            ("a(", "no regular expression"),
            ("a)|(b", "no regular expression"),
            (r"(?=a)a", "no regular expression"),
            (r"(a)\1", "no regular expression"),
            (&deep, "no regular expression"),
            (&long, "shorten it"),
            (r"(?:\w{1000}){1000}", "repeat less"),
            ("((((a{10}){10}){10}){10}){10}", "repeat less"),
            ("(?:.?){100000}", "repeat less"),
        ] {
            let refused = [whole(hostile).err(), TopicPattern::new(hostile).err()];
            for error in refused {
                let error = error.unwrap_or_else(|| panic!("{hostile:.30} is taken")).to_string();
                assert!(error.contains(says), "{hostile:.30}: {error}");
            }
        }
        let literals = vec!["a-topic-with-an-ordinary-name"; 130].join("|");
        assert!(literals.len() < PATTERN_BYTES_MAX && TopicPattern::new(&literals).is_ok());
    }

    /// Patterns that take exponential time where an engine tries one way after the other.
    #[test]
    fn the_worst_patterns_that_are_taken_are_compared_in_linear_time() {
        let begun = Instant::now();
        let names: Vec<String> = (0..20).map(|number| format!("{}{number}", "ab".repeat(120))).collect();
        for hostile in ["(a*)*c", "(a|a)*c", "(.*a){30}c", "(?:[a-z0-9]?){300}c", "(a|b)*a(a|b){100}c"] {
            let pattern = TopicPattern::new(hostile).unwrap();
            assert!(names.iter().all(|name| !pattern.matches(name)), "{hostile}");
        }
        // Milliseconds; a minute is for machines that do much else. Tried one after the other it would take years.
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
