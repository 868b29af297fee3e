//! Prints how long typical queries take over a large table in memory: `cargo run --release --example query_scale`.
//!
//! Arguments: rows (500000) and dimensions (384).

use hevlayer_origin::query;
use hevlayer_origin::schema::{Attribute, FullText, Schema};
use hevlayer_origin::table::{Metric, Table};
use hevlayer_origin::value::{AttrType, Id, IdType, Scalar, Value};
use hevlayer_origin::view::{QueryOptions, View};
use serde_json::json;
use std::time::Instant;

const ROUNDS: usize = 5;
const WORDS: u64 = 30_000;
const WORDS_PER_ROW: usize = 40;

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound
    }

    fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Low ranks are common, as in text.
    fn word(&mut self) -> String {
        let (left, right) = (self.below(WORDS), self.below(WORDS));
        format!("word{}", left * right / WORDS * left / WORDS)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let (rows, dims) = (arguments.next().unwrap_or(500_000), arguments.next().unwrap_or(384));
    let dims = u32::try_from(dims).expect("dimensions fit");
    let started = Instant::now();
    let table = build(rows, dims);
    let text_bytes = table.texts.values().map(|index| index.heap_bytes()).sum::<usize>();
    println!("built {rows} rows in {:.1} s; text index {} MiB", started.elapsed().as_secs_f64(), text_bytes >> 20);
    let mut rng = Rng(99);
    let vector: Vec<f32> = (0..dims).map(|_| rng.unit()).collect();
    for (name, body) in [
        ("ANN top 10", json!({"rank_by": ["vector", "ANN", vector], "limit": 10})),
        (
            "ANN top 10, half",
            json!({"rank_by": ["vector", "ANN", vector], "limit": 10, "filters": ["count", "Lt", 500]}),
        ),
        ("ANN top 10, 1 %", json!({"rank_by": ["vector", "ANN", vector], "limit": 10, "filters": ["count", "Lt", 10]})),
        ("BM25, 3 words", json!({"rank_by": ["body", "BM25", "word1 word50 word9000"], "limit": 10})),
        ("BM25, prefix", json!({"rank_by": ["body", "BM25", "word50 word12", {"last_as_prefix": true}], "limit": 10})),
        ("order by int", json!({"rank_by": ["count", "desc"], "limit": 10})),
        ("order by string", json!({"rank_by": ["name", "asc"], "limit": 10})),
        ("order by id, 10000", json!({"rank_by": ["id", "asc"], "limit": 10_000})),
        (
            "id In 100",
            json!({"rank_by": ["id", "asc"], "limit": 100, "filters": ["id", "In", (0..100).collect::<Vec<u64>>()]}),
        ),
        (
            "filtered count",
            json!({"aggregate_by": {"n": ["Count"]}, "filters": ["And", [["count", "Lt", 500], ["name", "Glob", "name1*"]]]}),
        ),
        ("count by group", json!({"aggregate_by": {"n": ["Count"], "s": ["Sum", "count"]}, "group_by": ["kind"]})),
        (
            "all tokens",
            json!({"aggregate_by": {"n": ["Count"]}, "filters": ["body", "ContainsAllTokens", "word1 word50"]}),
        ),
        (
            "phrase",
            json!({"aggregate_by": {"n": ["Count"]}, "filters": ["body", "ContainsTokenSequence", "word1 word2"]}),
        ),
    ] {
        let body = body.to_string();
        let view = View {
            name: "scale",
            table: &table,
            strong_seq: table.seq,
            eventual_seq: table.seq,
            options: QueryOptions::default(),
        };
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                query::handle(&view, body.as_bytes()).expect("an answer");
                started.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name:20} median {:7.1} ms, worst {:7.1} ms", times[ROUNDS / 2], times[ROUNDS - 1]);
    }
}

fn build(rows: u64, dims: u32) -> Table {
    let mut body = Attribute::new("body", AttrType::Scalar(Scalar::Str));
    (body.full_text_search, body.filterable) = (Some(FullText::default()), false);
    let attributes = vec![
        Attribute::new("vector", AttrType::parse(&format!("[{dims}]f32")).expect("a type")),
        body,
        Attribute::new("name", AttrType::Scalar(Scalar::Str)),
        Attribute::new("count", AttrType::Scalar(Scalar::Int)),
        Attribute::new("kind", AttrType::Scalar(Scalar::Str)),
        Attribute::new("live", AttrType::Scalar(Scalar::Bool)),
    ];
    let mut table = Table { metric: Some(Metric::Cosine), ..Table::default() };
    table.set_schema(Schema { id_type: Some(IdType::Uint), attributes });
    let mut rng = Rng(7);
    for id in 0..rows {
        let vector: Vec<f32> = (0..dims).map(|_| rng.unit()).collect();
        let text = (0..WORDS_PER_ROW).map(|_| rng.word()).collect::<Vec<_>>().join(" ");
        let attrs: Box<[Value]> = [
            Value::Null,
            Value::Str(text.into()),
            Value::Str(format!("name{}", rng.below(rows)).into()),
            Value::Int(i64::try_from(rng.below(1000)).expect("fits")),
            Value::Str(format!("kind{}", rng.below(50)).into()),
            Value::Bool(rng.below(2) == 0),
        ]
        .into();
        table.insert(Id::Uint(id), attrs, |_| Some(&vector), id / 1000 + 1, 0);
    }
    (table.seq, table.head) = (rows, rows);
    table
}
