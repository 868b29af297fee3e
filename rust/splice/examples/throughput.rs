//! Prints how fast bodies are scanned: `cargo run --release -p hevlayer-splice --example throughput`.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use hevlayer_splice::{strip_rows, QueryScan, WriteScan};

const RUNS: usize = 15;

fn body(rows: usize, decimals: usize, separator: &str) -> Vec<u8> {
    let mut text = String::from("{\"upsert_rows\":[");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for row in 0..rows {
        if row > 0 {
            text.push(',');
        }
        write!(text, "{{\"id\":{row},\"title\":\"A title of some words, number {row}\",\"vector\":[")
            .expect("a string");
        for at in 0..384 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if at > 0 {
                text.push_str(separator);
            }
            let value = (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
            write!(text, "{value:.decimals$}").expect("a string");
        }
        text.push_str("]}");
    }
    text.push_str("]}");
    text.into_bytes()
}

fn report(name: &str, bytes: usize, mut job: impl FnMut()) {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            job();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[RUNS / 2];
    println!("{name:32} {bytes:>10} bytes  {:8.1} us  {:6.2} GB/s", median * 1e6, bytes as f64 / median / 1e9);
}

fn main() {
    for (name, decimals, separator) in
        [("8 decimals", 8, ","), ("17 decimals", 17, ","), ("17 decimals, spaced", 17, ", "), ("3 decimals", 3, ",")]
    {
        let body = body(1000, decimals, separator);
        report(&format!("scan, {name}"), body.len(), || {
            black_box(WriteScan::new(black_box(&body), false).expect("a valid body"));
        });
        let scan = WriteScan::new(&body, false).expect("a valid body");
        report(&format!("render, {name}"), body.len(), || {
            black_box(scan.render(black_box(&body), 1_700_000_000_000, None));
        });
        report(&format!("strip nothing, {name}"), body.len(), || {
            black_box(strip_rows(black_box(&body)).expect("a valid body"));
        });
    }
    let query = br#"{"rank_by":["vector","ANN",[0.1,0.2]],"top_k":10,"filters":["And",[["a","Eq",1],["b","In",["x","y"]]]],"include_attributes":["title","extract"]}"#;
    report("query", query.len(), || {
        for _ in 0..1000 {
            black_box(QueryScan::new(black_box(query)).expect("a valid body"));
        }
    });
}
