//! MetricsQL, the dialect of VictoriaMetrics, as far as a declaration needs it: which expressions only it can read, and
//! how far back they read.
//!
//! There is no parser for it here. An expression that calls a function of its own is left to the source to judge; other
//! extensions of its syntax are refused like mistakes. Nothing is rewritten.

use jiff::SignedDuration;

use super::literals::emptied;
use crate::api::duration::Duration;
use crate::violation::Violation;

/// Whether an expression calls a function or an aggregation that `MetricsQL` has and `PromQL` lacks.
pub(super) fn is_meant(text: &str) -> bool {
    let Ok(text) = emptied(text) else { return false };
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_of_a_name) {
        let (name, behind) = word(&rest[start..]);
        if FUNCTIONS.binary_search(&name.to_ascii_lowercase().as_str()).is_ok() && is_call(behind) {
            return true;
        }
        rest = behind;
    }
    false
}

/// An expression that only the source can judge, as far as it can be checked: how far back it reads has to be known.
pub(super) fn check(text: &str, path: &str) -> Option<Violation> {
    let hint = "write ranges and offsets as whole numbers with units, such as [5m] or offset 1h30m";
    match reach(text) {
        Some(_) => None,
        None => Some(Violation::new(path, "has a range or an offset that pilotguard cannot read", hint)),
    }
}

/// An upper bound of how far back an expression reads that cannot be parsed: the sum of all its ranges and offsets, since
/// what encloses what is unknown. `None` where one of them cannot be read.
pub(super) fn reach(text: &str) -> Option<SignedDuration> {
    let text = emptied(text).ok()?.to_ascii_lowercase();
    let ranges = text.split('[').skip(1).map(|rest| rest.split([']', ':']).next().unwrap_or_default());
    let offsets = text.split("offset").skip(1).map(|rest| {
        let rest = rest.trim_start().trim_start_matches('-');
        rest.split(|character: char| !character.is_ascii_alphanumeric() && character != '.').next().unwrap_or_default()
    });
    let read = |text: &str| Duration::parse(text.trim()).ok().map(Duration::as_signed);
    ranges.chain(offsets).try_fold(SignedDuration::ZERO, |sum, text| Some(sum.saturating_add(read(text)?)))
}

fn is_call(behind: &str) -> bool {
    let behind = behind.trim_start();
    behind.starts_with('(') || ["by", "without"].contains(&word(behind).0.to_ascii_lowercase().as_str())
}

/// The name with which a text begins, and what follows it.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|character| !is_of_a_name(character)).unwrap_or(text.len()))
}

const fn is_of_a_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | ':' | '.')
}

/// Sorted. Source: the function lists of `VictoriaMetrics`' documentation of `MetricsQL`, less what the parser of `PromQL`
/// knows and less `start`, `end` and `step`, which are words of `PromQL` too.
const FUNCTIONS: &[&str] = &[
    "aggr_over_time",
    "any",
    "ascent_over_time",
    "bitmap_and",
    "bitmap_or",
    "bitmap_xor",
    "bottomk_avg",
    "bottomk_last",
    "bottomk_max",
    "bottomk_median",
    "bottomk_min",
    "buckets_limit",
    "changes_prometheus",
    "count_eq_over_time",
    "count_gt_over_time",
    "count_le_over_time",
    "count_ne_over_time",
    "decreases_over_time",
    "default_rollup",
    "delta_prometheus",
    "deriv_fast",
    "descent_over_time",
    "distinct",
    "distinct_over_time",
    "drop_common_labels",
    "drop_empty_series",
    "duration_over_time",
    "geomean",
    "geomean_over_time",
    "histogram",
    "histogram_over_time",
    "histogram_share",
    "hoeffding_bound_lower",
    "hoeffding_bound_upper",
    "holt_winters",
    "ideriv",
    "increase_prometheus",
    "increase_pure",
    "increases_over_time",
    "integrate",
    "interpolate",
    "keep_last_value",
    "keep_next_value",
    "label_copy",
    "label_del",
    "label_graphite_group",
    "label_keep",
    "label_lowercase",
    "label_map",
    "label_match",
    "label_mismatch",
    "label_move",
    "label_set",
    "label_transform",
    "label_uppercase",
    "label_value",
    "label_values",
    "labels_equal",
    "lag",
    "lifetime",
    "limit_offset",
    "mad",
    "median",
    "median_over_time",
    "mode",
    "mode_over_time",
    "now",
    "outlier_iqr_over_time",
    "outliers_iqr",
    "outliers_mad",
    "outliersk",
    "prometheus_buckets",
    "quantiles",
    "quantiles_over_time",
    "rand",
    "rand_exponential",
    "rand_normal",
    "range_avg",
    "range_first",
    "range_last",
    "range_linear_regression",
    "range_mad",
    "range_max",
    "range_min",
    "range_normalize",
    "range_over_time",
    "range_quantile",
    "range_stddev",
    "range_stdvar",
    "range_sum",
    "range_trim_outliers",
    "range_trim_spikes",
    "range_trim_zscore",
    "range_zscore",
    "rate_over_sum",
    "rate_prometheus",
    "remove_resets",
    "rollup",
    "rollup_candlestick",
    "rollup_delta",
    "rollup_deriv",
    "rollup_increase",
    "rollup_rate",
    "rollup_scrape_interval",
    "ru",
    "running_avg",
    "running_max",
    "running_min",
    "running_sum",
    "scrape_interval",
    "share",
    "share_eq_over_time",
    "share_gt_over_time",
    "share_le_over_time",
    "smooth_exponential",
    "sort_by_label_numeric",
    "sort_by_label_numeric_desc",
    "stale_samples_over_time",
    "sum2",
    "sum2_over_time",
    "sum_eq_over_time",
    "sum_gt_over_time",
    "sum_le_over_time",
    "tfirst_over_time",
    "timestamp_with_name",
    "timezone_offset",
    "tlast_change_over_time",
    "tlast_over_time",
    "tmax_over_time",
    "tmin_over_time",
    "topk_avg",
    "topk_last",
    "topk_max",
    "topk_median",
    "topk_min",
    "ttf",
    "union",
    "utilization",
    "zscore",
    "zscore_over_time",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_sorted() {
        assert!(FUNCTIONS.is_sorted());
    }

    #[test]
    fn a_call_of_its_own_functions_tells_it_from_promql() {
        for (text, expected) in [
            ("median_over_time(p99[5m])", true),
            ("MEDIAN_over_time (p99[5m])", true),
            ("1 + sum(label_set(up, \"a\", \"b\"))", true),
            ("median by (pod) (p99)", true),
            ("outliersk without(pod) (p99)", true),
            ("rate(x[5m]", false),
            ("raet(x[5m])", false),
            ("median", false),
            ("median > 1", false),
            ("up{a=\"median_over_time(x)\"", false),
            ("up{a=`median(`", false),
            ("up{ # median(x)", false),
            ("job:median_over_time(x)", false),
            ("'unterminated median(x)", false),
        ] {
            assert_eq!(is_meant(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_parsed_reads_as_far_back_as_all_its_ranges_together() {
        for (text, seconds) in [
            ("median_over_time(p99[5m])", 300),
            ("max_over_time(median_over_time(p99[5m])[1h:1m])", 3900),
            ("median_over_time(p99[ 1h30m ] offset 1d) / now()", 91_800),
            ("median_over_time(p99[5m] OFFSET -1h)", 3900),
            ("median_over_time(p99)", 0),
            ("label_set(up, 'a', '[5m]')", 0),
        ] {
            assert_eq!(reach(text), Some(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in
            ["p99[5i]", "p99[1.5h]", "p99[-5]", "p99[nan]", "p99[1e30]", "p99[", "p99[5m] offset 1.5h", "p99 offset"]
        {
            assert_eq!(reach(&format!("median_over_time({text})")), None, "{text}");
        }
    }
}
