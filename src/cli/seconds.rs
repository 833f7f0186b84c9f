//! Seconds as somebody writes them, `2` or `0.5`. Nothing else here would need floating point, whose reading
//! and printing are tens of kilobytes of the program.

use std::str::FromStr;
use std::time::Duration;

/// What an option in seconds says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seconds, String> {
        read(text)
            .filter(|d| *d <= Duration::from_secs(366 * 86_400))
            .map(Seconds)
            .ok_or_else(|| format!("{text:?} is no number of seconds"))
    }
}

/// Digits, with a point and more of them if need be; those beyond nanoseconds count for nothing.
fn read(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: String = part.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::new(seconds, nanos.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_not() {
        let read = |text: &str| text.parse::<Seconds>().ok().map(|s| s.0.as_nanos());
        assert_eq!(read("2"), Some(2_000_000_000));
        assert_eq!(read("0.5"), Some(500_000_000));
        assert_eq!(read(".25"), Some(250_000_000));
        assert_eq!(read("1."), Some(1_000_000_000));
        assert_eq!(read("0.0000000019"), Some(1));
        for wrong in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "inf",
            "NaN",
            "1.5.2",
            "1,5",
            " 1",
            "40000000",
            "99999999999999999999",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
