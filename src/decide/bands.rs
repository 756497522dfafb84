//! The bands in which the status shows figures that move all the time.
//!
//! A band ends where somebody would act differently. It is entered as soon as the figure says so and left only when
//! the figure has recovered past the edge by a margin, so that a figure that hovers at an edge causes no writes.
//! Nothing here is judged by: triggers and guards read the exact figures.

use std::cmp::Ordering;

/// The edges that every budget has, in percent that remains: half, a quarter and a tenth are when people plan, slow
/// down and stop; below 0 the objective is missed.
const BUDGET_EDGES: [f64; 5] = [75.0, 50.0, 25.0, 10.0, 0.0];

/// Beyond it the budget does not last for the SLO's window.
const SUSTAINABLE_BURN: f64 = 1.0;

/// A budget has recovered from an edge when so many percentage points more remain.
pub(super) const BUDGET_MARGIN: f64 = 2.0;

/// A burn rate has recovered from an edge when it is below this share of it.
const BURN_MARGIN: f64 = 0.9;

/// Figures closer than this are the same: they come from counts through a few divisions.
const PRECISION: f64 = 1e-6;

/// The band of a remaining budget in percent, for example `50-75%`, and `<0%` where it is overspent.
pub(super) fn budget_band(remaining: f64, declared: impl Iterator<Item = f64>, before: Option<&str>) -> String {
    let mut edges: Vec<f64> = BUDGET_EDGES.into_iter().chain(declared).filter(|edge| *edge < 100.0).collect();
    sort(&mut edges);
    edges.reverse();
    let passed = |remaining: f64| edges.iter().filter(|edge| remaining < **edge - PRECISION).count();
    let text = |band: usize| {
        let upper = band.checked_sub(1).and_then(|band| edges.get(band)).copied().unwrap_or(100.0);
        match edges.get(band) {
            Some(lower) if *lower < 0.0 => format!("{lower}..{upper}%"),
            Some(lower) => format!("{lower}-{upper}%"),
            None => format!("<{upper}%"),
        }
    };
    let band = kept(before, edges.len(), &text).clamp(passed(remaining), passed(remaining - BUDGET_MARGIN));
    text(band)
}

/// The band of a burn rate that is certainly above what is sustainable, for example `1-13.4` or `>13.4`. `at_least`
/// is the lower confidence bound of the rate that was measured.
pub(super) fn burn_band(
    at_least: f64,
    measured: f64,
    factors: impl Iterator<Item = f64>,
    before: Option<&str>,
) -> Option<String> {
    let mut edges: Vec<f64> = std::iter::once(SUSTAINABLE_BURN).chain(factors).collect();
    sort(&mut edges);
    let passed = |rate: f64| edges.iter().filter(|edge| rate > **edge + PRECISION).count();
    let text = |band: usize| match (band.checked_sub(1).and_then(|band| edges.get(band)), edges.get(band)) {
        (Some(lower), Some(upper)) => format!("{lower}-{upper}"),
        (Some(lower), None) => format!(">{lower}"),
        (None, _) => String::new(),
    };
    let (entered, left) = (passed(at_least), passed(measured / BURN_MARGIN));
    let band = kept(before, edges.len(), &text).clamp(entered, left.max(entered));
    Some(text(band)).filter(|_| edges.get(..band).is_some_and(|passed| passed.contains(&SUSTAINABLE_BURN)))
}

/// The band that was shown before, if it is still one; else the best.
fn kept(before: Option<&str>, edges: usize, text: &impl Fn(usize) -> String) -> usize {
    before.and_then(|before| (0..=edges).find(|band| text(*band) == before)).unwrap_or(0)
}

fn sort(edges: &mut Vec<f64>) {
    edges.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    edges.dedup_by(|one, other| (*one - *other).abs() < PRECISION);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(remaining: f64, before: Option<&str>) -> String {
        budget_band(remaining, [20.0, 50.0].into_iter(), before)
    }

    #[test]
    fn a_budget_is_shown_between_the_edges_at_which_somebody_acts() {
        for (remaining, band) in [
            (100.0, "75-100%"),
            (75.0, "75-100%"),
            (74.9, "50-75%"),
            (25.0, "25-50%"),
            (21.0, "20-25%"),
            (19.0, "10-20%"),
            (0.0, "0-10%"),
            (-0.1, "<0%"),
            (-900.0, "<0%"),
        ] {
            assert_eq!(budget(remaining, None), band, "{remaining}");
        }
        assert_eq!(budget_band(-10.0, [-50.0, 12.5].into_iter(), None), "-50..0%");
        assert_eq!(budget_band(11.0, [-50.0, 12.5].into_iter(), None), "10-12.5%");
        assert_eq!(budget_band(99.0, [100.0].into_iter(), None), "75-100%", "every budget is at most full");
    }

    #[test]
    fn a_budget_that_hovers_at_an_edge_stays_below_it() {
        let mut band = budget(50.1, None);
        for (remaining, expected) in [
            (49.9, "25-50%"),
            (50.1, "25-50%"),
            (51.9, "25-50%"),
            (52.1, "50-75%"),
            (50.1, "50-75%"),
            (24.0, "20-25%"),
            (90.0, "75-100%"),
        ] {
            band = budget(remaining, Some(&band));
            assert_eq!(band, expected, "{remaining}");
        }
        assert_eq!(budget(60.0, Some("of another declaration")), "50-75%");
    }

    #[test]
    fn a_burn_rate_is_shown_once_it_is_certainly_too_high() {
        let burn = |at_least, measured, before| burn_band(at_least, measured, [13.4, 6.0].into_iter(), before);
        for (at_least, measured, before, expected) in [
            (0.0, 20.0, None, None),
            (1.1, 2.0, None, Some("1-6")),
            (0.5, 0.95, Some("1-6"), Some("1-6")),
            (0.5, 0.85, Some("1-6"), None),
            (14.0, 15.0, None, Some(">13.4")),
            (5.0, 7.0, Some(">13.4"), Some("6-13.4")),
        ] {
            assert_eq!(burn(at_least, measured, before).as_deref(), expected, "{at_least} {measured} {before:?}");
        }
        assert_eq!(burn_band(0.7, 0.8, [0.5].into_iter(), None), None, "a factor below 1 is sustainable");
    }

    proptest! {
        /// What is shown is never more than a margin away from what is so.
        #[test]
        fn a_band_lags_by_at_most_its_margin(walk in prop::collection::vec(-20.0..120.0_f64, 1..30)) {
            let mut band = None;
            for remaining in walk {
                let shown = budget(remaining, band.as_deref());
                let is_true = [remaining, remaining - BUDGET_MARGIN].map(|figure| budget(figure, None));
                let lies_between = budget_index(&is_true[0]) <= budget_index(&shown)
                    && budget_index(&shown) <= budget_index(&is_true[1]);
                prop_assert!(lies_between, "{remaining}: {shown}, not between {is_true:?}");
                band = Some(shown);
            }
        }
    }

    fn budget_index(band: &str) -> usize {
        let bands = ["75-100%", "50-75%", "25-50%", "20-25%", "10-20%", "0-10%", "<0%"];
        bands.iter().position(|known| *known == band).unwrap()
    }
}
