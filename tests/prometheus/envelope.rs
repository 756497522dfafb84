//! The decoder is total: no bytes make it panic, and what it accepts is what was written.

use std::collections::BTreeMap;

use pilotguard::observe::prometheus::envelope::{Envelope, QueryResult, Sample, Series, decode};
use proptest::prelude::*;

use crate::fake::vector;

fn series(number: f64) -> Series {
    Series { labels: BTreeMap::new(), sample: Sample::Float(number) }
}

/// JSON that looks like an answer: the right keys with values of all kinds, in all nestings.
fn nearly_an_answer() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        Just("success"),
        Just("error"),
        Just("vector"),
        Just("scalar"),
        Just("matrix"),
        Just("NaN"),
        Just("1"),
        Just("")
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        (1usize..40).prop_map(|digits| "9".repeat(digits)),
        text.prop_map(|text| format!("\"{text}\"")),
    ];
    let key = prop_oneof![
        Just("status"),
        Just("data"),
        Just("resultType"),
        Just("result"),
        Just("value"),
        Just("histogram"),
        Just("metric"),
        Just("warnings"),
        Just("errorType"),
        Just("isPartial"),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|fields| {
                let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn nothing_that_looks_like_an_answer_makes_it_panic(text in nearly_an_answer()) {
        let _ = decode(text.as_bytes());
        let _ = decode(format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{text}}}}}"#).as_bytes());
        let _ = decode(format!(r#"{{"status":"success","data":{text}}}"#).as_bytes());
    }

    #[test]
    fn an_answer_cut_short_is_never_accepted(numbers in prop::collection::vec(any::<f64>(), 0..5), cut in 0.0..1.0) {
        let texts: Vec<_> = numbers.iter().map(f64::to_string).collect();
        let whole = vector(&texts.iter().map(String::as_str).collect::<Vec<_>>(), r#","warnings":["w"]"#);
        let expected: Vec<_> = numbers.iter().map(|number| series(*number)).collect();
        match decode(whole.as_bytes()) {
            Ok(Envelope::Success { result: QueryResult::Vector(samples), warnings }) => {
                prop_assert_eq!(format!("{samples:?}"), format!("{expected:?}"));
                prop_assert_eq!(warnings, vec!["w".to_owned()]);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let end = (whole.len() as f64 * cut) as usize;
        prop_assert!(decode(&whole.as_bytes()[..end]).is_err());
    }
}

#[test]
fn a_million_digits_and_bottomless_nesting_are_malformed() {
    let digits = "9".repeat(1_000_000);
    assert!(decode(digits.as_bytes()).is_err());
    assert!(
        decode(
            format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[{digits},"1"]}}}}"#).as_bytes()
        )
        .is_err()
    );
    let deep = "[".repeat(1_000_000);
    assert!(decode(deep.as_bytes()).is_err());
    assert!(
        decode(format!(r#"{{"status":"success","data":{{"resultType":"vector","result":{deep}"#).as_bytes()).is_err()
    );
    let number = decode(vector(&[&digits], "").as_bytes()).unwrap();
    assert_eq!(
        number,
        Envelope::Success { result: QueryResult::Vector(vec![series(f64::INFINITY)]), warnings: vec![] }
    );
}
