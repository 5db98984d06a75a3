use proptest::prelude::*;

use super::*;
use crate::values::rank;

fn values(list: &[u16], kept: usize) -> Values {
    let mut values = Values::default();
    for value in list {
        add_value(&mut values, format!("v{value}"), kept);
    }
    trim(&mut values, kept);
    values
}

/// Counts all values, and then keeps those with the lowest ranks.
fn brute(list: &[u16], kept: usize) -> Values {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for value in list {
        *counts.entry(format!("v{value}")).or_default() += 1;
    }
    let mut all: Vec<(u64, String, i64)> =
        counts.into_iter().map(|(value, count)| (rank(&value), value, count)).collect();
    all.sort();
    let others = all.iter().skip(kept).map(|(_, _, count)| count).sum();
    Values { counts: all.into_iter().take(kept).map(|(_, value, count)| (value, count)).collect(), others }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The same values with the same counts, also above the bound, however they were split and in whatever order.
    #[test]
    fn which_values_are_kept_and_their_numbers_depend_on_the_values_alone(
        list in prop::collection::vec(0..60_u16, 0..200)
            .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        kept in 1..12_usize,
        every in 1..40_usize,
    ) {
        let (list, shuffled) = list;
        let expected = brute(&list, kept);
        prop_assert_eq!(&values(&list, kept), &expected);
        let mut merged = Values::default();
        for part in shuffled.chunks(every) {
            merge_values(&mut merged, values(part, kept), kept);
        }
        prop_assert_eq!(&merged, &expected);
    }

    /// A number that is written reads back as the same number.
    #[test]
    fn a_number_reads_back(number in any::<f64>().prop_filter("a JSON number", |number| number.is_finite())) {
        prop_assert_eq!(text_to_number(&number_to_text(number)).to_bits(), number.to_bits());
    }
}

#[test]
fn numbers_read_as_people_write_them() {
    for (number, expected) in
        [(20.0, "20"), (0.5, "0.5"), (-3.0, "-3"), (1e300, "1e300"), (0.0, "0"), (1e-9, "1e-9")]
    {
        assert_eq!(number_to_text(number), expected);
    }
}

#[test]
fn a_limit_decides_how_many_values_are_kept() {
    let cardinality = |limit| {
        values_kept(&Condition::Cardinality { path: String::new(), window: domain::Millis(1), limit })
    };
    assert_eq!(cardinality(domain::Limit::Above(5)), 101);
    assert_eq!(cardinality(domain::Limit::Below(500)), 501);
    assert_eq!(cardinality(domain::Limit::Above(1_000_000)), 10_000);
}

#[test]
fn a_rule_that_only_counts_sends_no_more_than_before() {
    let at = RecordRef { time: jiff::Timestamp::UNIX_EPOCH, topic: "t".into(), partition: 0, offset: 0 };
    let sample = Sample { at, value: serde_json::json!(1) };
    let count = Count {
        rule: uuid::Uuid::nil(),
        group: BTreeMap::new(),
        bucket_ms: 0,
        count: 1,
        first: sample.clone(),
        last: sample,
        extras: None,
        top: BTreeMap::new(),
    };
    let json = serde_json::to_value(&count).unwrap();
    let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["bucketMs", "count", "first", "group", "last", "rule"]);
    assert_eq!(serde_json::from_value::<Count>(json).unwrap(), count);
}
