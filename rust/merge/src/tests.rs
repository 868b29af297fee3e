use super::*;

fn merged(answers: &[&str], offset: usize, limit: usize, order: Order) -> String {
    let answers: Vec<&[u8]> = answers.iter().map(|answer| answer.as_bytes()).collect();
    let merged = merge(&answers, offset, limit, order).expect("merges");
    String::from_utf8(merged.rows).expect("UTF-8")
}

const TWO_LEGS: &str = r#"{"results":[{"rows":[{"$dist":0.1,"id":3},{"$dist":0.5,"id":1,"a":{"id":9,"$dist":0}}]},
    {"rows":[{"id":2,"$dist":0.5},{"id":4,"$dist":7e-1}]}],"billing":{"x":1},"performance":{"y":2}}"#;

#[test]
fn distances_come_smallest_first_and_equal_ones_by_id() {
    let rows = r#"[{"$dist":0.1,"id":3},{"$dist":0.5,"id":1,"a":{"id":9,"$dist":0}},{"id":2,"$dist":0.5},{"id":4,"$dist":7e-1}]"#;
    assert_eq!(merged(&[TWO_LEGS], 0, 10, Order::Ascending), rows);
}

#[test]
fn scores_come_largest_first() {
    let rows = r#"[{"id":4,"$dist":7e-1},{"$dist":0.5,"id":1,"a":{"id":9,"$dist":0}}]"#;
    assert_eq!(merged(&[TWO_LEGS], 0, 2, Order::Descending), rows);
}

#[test]
fn offset_and_limit_cut_the_merged_list() {
    assert_eq!(merged(&[TWO_LEGS], 2, 1, Order::Ascending), r#"[{"id":2,"$dist":0.5}]"#);
    assert_eq!(merged(&[TWO_LEGS], 4, 5, Order::Ascending), "[]");
    assert_eq!(merged(&[TWO_LEGS], usize::MAX, usize::MAX, Order::Ascending), "[]");
    assert_eq!(merged(&[TWO_LEGS], 0, 0, Order::Ascending), "[]");
}

#[test]
fn an_id_of_two_legs_is_shown_once_however_often_it_comes() {
    let leg = |dist: usize| format!(r#"{{"rows":[{{"$dist":{dist},"id":"a"}}]}}"#);
    let copies: Vec<String> = (0..400).map(leg).collect();
    let answer = format!(r#"{{"results":[{}]}}"#, copies.join(","));
    let other = r#"{"rows":[{"$dist":900,"id":"b"},{"$dist":901,"id":"\u0061"}]}"#;
    let rows = r#"[{"$dist":0,"id":"a"},{"$dist":900,"id":"b"}]"#;
    assert_eq!(merged(&[&answer, other], 0, 2, Order::Ascending), rows);
}

#[test]
fn strings_are_ordered_by_what_they_say() {
    let answer = r#"{"rows":[{"$dist":1,"id":"b"},{"$dist":1,"id":"\u0061"},{"$dist":1,"id":10},{"$dist":1,"id":9}]}"#;
    let rows = r#"[{"$dist":1,"id":9},{"$dist":1,"id":10},{"$dist":1,"id":"\u0061"},{"$dist":1,"id":"b"}]"#;
    assert_eq!(merged(&[answer], 0, 9, Order::Ascending), rows);
}

#[test]
fn billing_and_performance_are_told_for_each_answer() {
    let plain = r#"{"rows":[]}"#;
    let merged = merge(&[plain.as_bytes(), TWO_LEGS.as_bytes()], 0, 1, Order::Ascending).expect("merges");
    assert_eq!((merged.legs, merged.row_count), (3, 1));
    let [billing] = &merged.billing[..] else { panic!("one answer has billing") };
    assert_eq!((billing.answer, &TWO_LEGS[billing.range.clone()]), (1, r#"{"x":1}"#));
    let [performance] = &merged.performance[..] else { panic!("one answer has performance") };
    assert_eq!((performance.answer, &TWO_LEGS[performance.range.clone()]), (1, r#"{"y":2}"#));
}

#[test]
fn what_cannot_be_merged_is_refused_with_its_place() {
    let cases = [
        (r#"{"rows":[{"id":1}]}"#, "row 0 of leg 0 has no number at $dist"),
        (r#"{"rows":[{"id":1,"$dist":"x"}]}"#, "row 0 of leg 0 has no number at $dist"),
        (r#"{"rows":[{"$dist":1,"id":1},{"$dist":1,"id":-1}]}"#, "row 1 of leg 0 has no id"),
        (r#"{"rows":[7]}"#, "row 0 of leg 0 has no number at $dist"),
        (r#"{"results":[{"rows":[]},{"aggregations":{}}]}"#, "results[1] has no rows"),
        (r#"{"results":[null]}"#, "results[0] has no rows"),
        ("{}", "it has no rows"),
        ("[]", "it has no rows"),
        (r#"{"rows":[{"$dist":1,"id":1}"#, "EOF while parsing a list at byte 27"),
        ("", "EOF while parsing a value at byte 0"),
    ];
    for (answer, reason) in cases {
        let error = merge(&[b"{\"rows\":[]}", answer.as_bytes()], 0, 1, Order::Ascending).expect_err(answer);
        assert_eq!(error, MergeError { answer: 1, reason: reason.to_owned() });
    }
}
