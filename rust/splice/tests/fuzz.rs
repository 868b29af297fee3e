//! Damaged bodies by the hundred thousand, from a fixed seed: each is refused exactly when it is not JSON or breaks a
//! rule, nothing panics, and what is rendered is JSON again.

use hevlayer_splice::{
    layer_results, strip_rows, strip_schema, top_level, Code, QueryRender, QueryScan, RenderState, WriteScan,
};
use serde::de::IgnoredAny;

const MUTATIONS: usize = 100_000;

const WRITES: [&str; 5] = [
    r#"{"upsert_rows":[{"id":1,"vector":[0.12345678,-0.5,1e-05,0.0,12],"t":"a\u00e9\n"},{"id":"x","n":null}],"deletes":[3,"y"]}"#,
    r#"{"upsert_columns":{"id":[1,2,3],"t":["a",null,"c"],"_hevlayer_upserted_at":[1,2,3]},"distance_metric":"cosine_distance"}"#,
    r#"{"upserts":[{"id":"a","vector":[1,2],"attributes":{"t":1}},{"id":2,"attributes":{}},{"attributes":null,"id":3}],"patches":[]}"#,
    r#"{"patch_by_filter":{"filters":["a","Eq",1],"patch":{"b":2}},"schema":{"t":{"type":"string"},"u":{"drop":true}}}"#,
    "{ \"patch_rows\" : [ { \"id\" : 7 , \"_hevlayer_upserted_at\" : [1] } ,\n {\"id\":8}\t] , \"\\u0064eletes\" : [ ] }",
];

const QUERIES: [&str; 4] = [
    r#"{"rank_by":["vector","ANN",[0.1,-0.25,3]],"top_k":10,"filters":["And",[["a","Eq",1]]],"include_attributes":true}"#,
    r#"{"queries":[{"rank_by":["id","asc"],"limit":3,"exclude_attributes":["a"]},{"aggregate_by":{"n":["Count"]}}],"rerank_by":["RRF"]}"#,
    r#"{"vector":[1,2,3],"rank_by":null,"top_k":3,"consistency":null,"filters":null}"#,
    r#"{"nearest_to_id":["a",4],"top_k":3,"exclude_attributes":null,"include_attributes":true}"#,
];

const ANSWERS: [&str; 2] = [
    r#"{"rows":[{"id":1,"$dist":0.25,"_hevlayer_upserted_at":5,"a":[1,2]},{"_hevlayer_shard":1,"id":2}],"billing":{}}"#,
    r#"{"results":[{"rows":[{"id":1,"_hevlayer_upserted_at":5}]},{"aggregation_groups":[{"_hevlayer_x":1}]}],"performance":{}}"#,
];

/// xorshift64*: the same mutations on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits") % sides
    }
}

fn damage(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    const ALPHABET: &[u8] = b"{}[]\",:\\ \n0123456789.-+eEtrufalsn\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xff_hevlayer_";
    let mut body = seed.to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(body.len() + 1);
        let byte = ALPHABET[dice.roll(ALPHABET.len())];
        match dice.roll(6) {
            0 if at < body.len() => body[at] = byte,
            1 => body.insert(at, byte),
            2 => drop(body.drain(at..(at + 1 + dice.roll(4)).min(body.len()).max(at))),
            3 => body.truncate(at),
            4 => {
                let from = dice.roll(body.len() + 1);
                let piece = body[from..(from + dice.roll(16)).min(body.len())].to_vec();
                body.splice(at..at, piece);
            }
            _ => {}
        }
        if body.is_empty() {
            break;
        }
    }
    body
}

/// An independent judge: valid UTF-8 and valid JSON, values not looked at.
fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn each_mutation(seeds: &[&str], mut check: impl FnMut(&[u8])) {
    let mut dice = Dice(0x5eed_0123_4567_89ab);
    for round in 0..MUTATIONS {
        let seed = seeds[round % seeds.len()].as_bytes();
        check(&damage(seed, &mut dice));
    }
}

#[test]
fn damaged_writes() {
    let (mut accepted, mut refused) = (0, 0);
    each_mutation(&WRITES, |body| match WriteScan::new(body, false) {
        Ok(scan) => {
            accepted += 1;
            assert!(is_json(body), "{}", body.escape_ascii());
            let rendered = scan.render(body, 1_777, Some("cosine_distance"));
            assert!(is_json(&rendered), "{}\n{}", body.escape_ascii(), rendered.escape_ascii());
            assert_eq!(rendered.len(), scan.rendered_length(body, 1_777, Some("cosine_distance")));
            let mut state = RenderState::default();
            let mut chunks = Vec::new();
            for offset in (0..rendered.len()).step_by(37) {
                scan.render_chunk(body, &mut state, 1_777, Some("cosine_distance"), (offset, 37), &mut chunks);
            }
            assert_eq!(chunks, rendered, "{}", body.escape_ascii());
            let rows = scan.upserts + scan.patches + scan.deletes;
            assert!(scan.ids(body).len() as u64 <= 2 * rows, "a uuid has two keys at most");
        }
        Err(error) => {
            refused += 1;
            let is_syntax = error.code == Code::BadJson && !error.message.contains("duplicate field");
            assert_eq!(is_syntax, !is_json(body), "{}: {}", error, body.escape_ascii());
        }
    });
    assert!(accepted > MUTATIONS / 20 && refused > MUTATIONS / 4, "{accepted} accepted, {refused} refused");
}

#[test]
fn damaged_queries() {
    let renders = [
        QueryRender { eventual: true, watermark_ms: Some(5), exclude_reserved: true, vector: Some(b"[1]") },
        QueryRender { exclude_reserved: true, vector: Some(b"[1]"), ..QueryRender::default() },
    ];
    let mut accepted = 0;
    each_mutation(&QUERIES, |body| match QueryScan::new(body) {
        Ok(scan) => {
            accepted += 1;
            assert!(is_json(body), "{}", body.escape_ascii());
            for render in &renders {
                if let Some(rendered) = scan.render(body, render) {
                    assert!(is_json(&rendered), "{}\n{}", body.escape_ascii(), rendered.escape_ascii());
                }
            }
        }
        Err(error) => {
            let is_syntax = error.code == Code::BadJson && !error.message.contains("duplicate field");
            assert_eq!(is_syntax, !is_json(body), "{}: {}", error, body.escape_ascii());
        }
    });
    assert!(accepted > MUTATIONS / 20, "{accepted} accepted");
}

#[test]
fn damaged_answers() {
    let mut changed = 0;
    each_mutation(&ANSWERS, |body| {
        assert_eq!(layer_results(body).is_ok(), is_json(body), "{}", body.escape_ascii());
        let edits = [strip_rows(body), Ok(strip_schema(body, Some("billing"))), layer_results(body)];
        for edited in edits.into_iter().filter_map(|edit| edit.ok().flatten()) {
            changed += 1;
            assert!(is_json(body), "{}", body.escape_ascii());
            assert!(is_json(&edited), "{}\n{}", body.escape_ascii(), edited.escape_ascii());
        }
        let members = top_level(body, &["rows".to_owned()]);
        assert_eq!(
            members.is_err_and(|error| error.code == Code::BadJson && !error.message.contains("duplicate")),
            !is_json(body)
        );
    });
    assert!(changed > MUTATIONS / 20, "{changed} changed");
}

/// Lists of numbers of every kind and length, so that each byte of a block meets each fault.
#[test]
fn damaged_number_lists() {
    const NUMBERS: [&str; 12] = [
        "0",
        "-0",
        "7",
        "-3.25",
        "0.1234567",
        "-0.98765432109876543",
        "1e5",
        "01",
        "1.",
        "-",
        ".5",
        "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
    ];
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut accepted = 0;
    for round in 0..MUTATIONS {
        let separator = if round % 3 == 0 { ", " } else { "," };
        let kinds = if round % 5 == 0 { NUMBERS.len() } else { 6 };
        let list: Vec<&str> = (0..dice.roll(60)).map(|_| NUMBERS[dice.roll(kinds)]).collect();
        let mut body = format!("{{\"a\":[{}]}}", list.join(separator)).into_bytes();
        if round % 2 == 0 {
            body = damage(&body, &mut dice);
        }
        let read = WriteScan::new(&body, false).is_ok();
        assert_eq!(read, is_json(&body) && body.trim_ascii_start().first() != Some(&b'['), "{}", body.escape_ascii());
        accepted += usize::from(read);
    }
    assert!(accepted > MUTATIONS / 4 && accepted < MUTATIONS * 9 / 10, "{accepted} accepted");
}
