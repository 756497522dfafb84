//! Figures as people read them: seconds, medians, ratios.

use std::time::Duration;

/// The middle of these, or of the two in the middle their mean; `None` of nothing.
pub(crate) fn median(figures: &[Duration]) -> Option<Duration> {
    let mut sorted = figures.to_vec();
    sorted.sort();
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((*low + *high) / 2)
}

/// The figure that so many of a hundred do not exceed (nearest rank).
pub(crate) fn percentile(figures: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = figures.to_vec();
    sorted.sort();
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

/// `1.24 s`, `38 ms` or `3.4 ms`.
pub(crate) fn text(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1000.0;
    match milliseconds {
        1000.0.. => format!("{:.2} s", milliseconds / 1000.0),
        10.0..1000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{milliseconds:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(figures: &[u64]) -> Vec<Duration> {
        figures.iter().map(|figure| Duration::from_millis(*figure)).collect()
    }

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(&milliseconds(&[9, 1, 5])), Some(Duration::from_millis(5)));
        assert_eq!(median(&milliseconds(&[4, 1, 9, 6])), Some(Duration::from_millis(5)));
        assert_eq!(median(&[]), None);
        assert_eq!(
            percentile(&milliseconds(&[10, 20, 30, 40, 50, 60, 70, 80, 90, 100]), 99),
            Some(Duration::from_millis(100))
        );
        assert_eq!(percentile(&milliseconds(&[10, 20, 30, 40]), 50), Some(Duration::from_millis(20)));
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(text(Duration::from_micros(1_240_400)), "1.24 s");
        assert_eq!(text(Duration::from_micros(38_400)), "38 ms");
        assert_eq!(text(Duration::from_micros(3_440)), "3.4 ms");
    }
}
