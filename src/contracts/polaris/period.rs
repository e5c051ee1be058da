//! Durations in ISO 8601 notation, such as `P30D` and `PT12H`. They say how late or early an event may be.

use jiff::{Span, SpanRelativeTo, Unit};

/// The seconds of a period.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a period such as P30D, P1W or PT12H");
    let span: Span =
        if text.starts_with('P') { text.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(format!("{text:?}: years and months vary in length; use days"));
    }
    let seconds = span.total((Unit::Second, SpanRelativeTo::days_are_24_hours())).map_err(|_| wrong())?;
    let whole = jiff::SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong())?.as_secs();
    u64::try_from(whole).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_written() {
        for (period, expected) in
            [("P30D", 2_592_000), ("P1W", 604_800), ("PT12H", 43_200), ("P1DT30M", 88_200), ("PT0S", 0)]
        {
            assert_eq!(seconds(period), Ok(expected), "{period}");
        }
        for bad in ["", "30D", "P", "P1M", "P1Y", "-P1D", "P-1D", "1 day", "P30D ", "P99999999999999D"] {
            assert!(seconds(bad).is_err(), "{bad:?}");
        }
    }
}
