//! Regular expressions that clients send: in the syntax of RE2, which takes time in proportion to what it reads, within
//! limits on their length and on what they compile to.

use super::limits::{PATTERN_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX};
use regex::{Regex, RegexBuilder};

/// A pattern that must match the whole of a text.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(regex::Error::CompiledTooBig(PATTERN_BYTES_MAX));
    }
    // Compiled once as it is, so that the anchors cannot repair one that is no pattern by itself.
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_COMPILED_BYTES_MAX).build();
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_is_matched() {
        let pattern = whole("pay|orders-.*").unwrap();
        assert!(pattern.is_match("pay") && pattern.is_match("orders-eu"));
        assert!(!pattern.is_match("payments") && !pattern.is_match("new-orders-eu"));
    }

    #[test]
    fn what_is_no_pattern_or_a_hostile_one_is_refused() {
        for hostile in ["a(", "a)|(b", r"(?:\w{1000}){1000}", &"a".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(whole(hostile).is_err(), "{hostile:.20}");
        }
    }
}
