//! Big tables: threads change nothing, and a deadline or a cancellation ends the work within a bounded number of rows.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use hevlayer_doc::{Rows, View};
use hevlayer_filter::columns::build::SegmentBuilder;
use hevlayer_filter::columns::plan::Step;
use hevlayer_filter::columns::run::{for_chunks, Living, CHUNK_ROWS};
use hevlayer_filter::columns::segment::{Origin, Segment};
use hevlayer_filter::columns::table::Table;
use hevlayer_filter::compile::Filter;
use hevlayer_filter::scan::{count_rows, ids_of_rows, Limits, Records, RowSource};
use hevlayer_filter::schema::{Kind, Schema};
use hevlayer_filter::ScanError;

/// Enough for two threads over columns.
const ROWS: u64 = 270_000;

fn schema() -> Schema {
    let text = br#"{"id":{"type":"uint"},"n":{"type":"int"},"t":{"type":"string"},"l":{"type":"[]int"}}"#;
    Schema::parse(text).expect("a schema")
}

fn rows(from: u64, to: u64) -> Rows {
    let row = |id: u64| format!(r#"{{"id":{id},"n":{},"t":"t{}","l":[{},{}]}}"#, id % 1_000, id % 7, id % 3, id % 5);
    let rows: Vec<String> = (from..to).map(row).collect();
    Rows::read(format!(r#"{{"rows":[{}]}}"#, rows.join(",")).as_bytes(), &[]).expect("rows")
}

fn filters() -> Vec<Filter> {
    let texts = [
        r#"["n","Lt",250]"#,
        r#"["And",[["t","Eq","t3"],["n","Gte",10]]]"#,
        r#"["Or",[["l","Contains",4],["id","Lt",100000]]]"#,
        r#"["Not",["t","In",["t1","t2","none"]]]"#,
        r#"["And",[]]"#,
    ];
    texts.iter().map(|text| Filter::new(text.as_bytes(), &schema()).expect("a filter")).collect()
}

fn with_threads(threads: usize) -> Limits {
    Limits { threads, ..Limits::default() }
}

struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn table(records: &Rows, name: &str) -> (Home, Table) {
    let home = Home(std::env::temp_dir().join(format!("hevlayer-limits-{name}-{}", std::process::id())));
    std::fs::create_dir_all(&home.0).expect("a directory");
    let mut every = Filter::all();
    for attribute in ["n", "t", "l"] {
        every.read_also(attribute, &schema()).expect("an attribute");
    }
    let mut builder = SegmentBuilder::new(Kind::Uint, every.attributes);
    builder.read(&Records(&records.records), &Limits::default()).expect("rows");
    let path = home.0.join("of.columns");
    builder.finish(&path, 1, Origin::default()).expect("a segment");
    let segment = Segment::open(&path).expect("a segment");
    (home, Table::new(Arc::new(segment)))
}

#[test]
fn threads_change_nothing() {
    let records = rows(0, ROWS);
    let (_home, mut table) = table(&records, "threads");
    let source = Records(&records.records);
    let check = |table: &Table, same_as_rows: bool| {
        for (index, filter) in filters().into_iter().enumerate() {
            let alone = table.count(&filter, &with_threads(1)).expect("a count").expect("columns");
            let ids = table.ids(&filter, None, usize::MAX, &with_threads(1)).expect("ids").expect("columns");
            assert_eq!(alone.count, ids.len() as u64);
            for threads in [2, 64] {
                assert_eq!(table.count(&filter, &with_threads(threads)).expect("a count"), Some(alone));
                let found = table.ids(&filter, None, usize::MAX, &with_threads(threads)).expect("ids");
                assert_eq!(found.as_ref(), Some(&ids));
                let after = ids.key(ids.len() / 3);
                let page = table.ids(&filter, after.as_deref(), 1_000, &with_threads(threads)).expect("ids");
                let expected = table.ids(&filter, after.as_deref(), 1_000, &with_threads(1)).expect("ids");
                assert_eq!(page, expected);
            }
            if same_as_rows && index % 2 == 0 {
                for threads in [1, 2] {
                    assert_eq!(count_rows(&filter, &source, &with_threads(threads)).expect("a count"), alone);
                }
                let by_rows = ids_of_rows(&filter, &source, None, usize::MAX, &with_threads(2)).expect("ids");
                assert_eq!(by_rows, ids);
            }
        }
    };
    check(&table, true);
    let before = table.clone();
    for record in &rows(ROWS - 500, ROWS + 500).records {
        table.change(&record.key, (record.key[8] % 3 > 0).then_some(&record.head));
    }
    check(&table, false);
    assert!(table.changed_rows() > 500 && table.superseded_rows() == 500);
    // The copy from before stands as it was.
    assert_eq!((before.rows() as u64, before.changed_rows()), (ROWS, 0));
    check(&before, false);
}

/// Sets the flag once so many rows were visited.
struct Stopping<'a> {
    records: Records<'a>,
    limits: &'a Limits,
    at: u64,
    visited: AtomicU64,
}

impl RowSource for Stopping<'_> {
    fn visit(
        &self,
        part: usize,
        parts: usize,
        visit: &mut dyn FnMut(&[u8], &View<'_>) -> ControlFlow<()>,
    ) -> Result<(), String> {
        self.records.visit(part, parts, &mut |key, row| {
            if self.visited.fetch_add(1, Ordering::Relaxed) == self.at {
                self.limits.cancel.store(true, Ordering::Relaxed);
            }
            visit(key, row)
        })
    }
}

#[test]
fn a_cancellation_ends_a_scan_of_rows_within_a_few() {
    const CHECK_ROWS: u64 = 32;
    let records = rows(0, 50_000);
    for (threads, at) in [(1, 0), (1, 10_000), (2, 5_000)] {
        let limits = with_threads(threads);
        let source = Stopping { records: Records(&records.records), limits: &limits, at, visited: AtomicU64::new(0) };
        let stopped = count_rows(&Filter::all(), &source, &limits);
        assert_eq!(stopped, Err(ScanError::Cancelled));
        let visited = source.visited.load(Ordering::Relaxed);
        // Another thread may come a long way before this one sets the flag.
        let others = if threads == 1 { 0 } else { 10_000 };
        assert!(visited <= at + CHECK_ROWS + others, "{visited}");
    }
}

#[test]
fn a_cancellation_ends_a_scan_of_columns_within_a_few_chunks() {
    const CHECK_CHUNKS: usize = 16;
    let limits = with_threads(1);
    let mut chunks = 0;
    let rows = 0..CHUNK_ROWS * 1_000;
    let stopped = for_chunks(&Step::Always(true), rows, Living(&[]), &limits, &mut |_, _| {
        chunks += 1;
        if chunks == 100 {
            limits.cancel.store(true, Ordering::Relaxed);
        }
        true
    });
    assert_eq!(stopped, Err(ScanError::Cancelled));
    assert!(chunks <= 100 + CHECK_CHUNKS, "{chunks}");
}

#[test]
fn a_deadline_that_is_over_lets_nothing_begin() {
    let records = rows(0, 10_000);
    let (_home, table) = table(&records, "deadline");
    let limits = Limits { deadline: Some(Instant::now()), ..Limits::default() };
    for filter in filters() {
        assert_eq!(table.count(&filter, &limits), Err(ScanError::TimedOut));
        assert_eq!(table.ids(&filter, None, 10, &limits), Err(ScanError::TimedOut));
        assert_eq!(count_rows(&filter, &Records(&records.records), &limits), Err(ScanError::TimedOut));
    }
    let mut builder = SegmentBuilder::new(Kind::Uint, Vec::new());
    assert_eq!(builder.read(&Records(&records.records), &limits), Err(ScanError::TimedOut));
    assert_eq!(builder.rows(), 0);
}

#[test]
fn texts_that_take_too_much_memory_get_no_column() {
    let records = rows(0, 1_000);
    let mut every = Filter::all();
    for attribute in ["n", "t"] {
        every.read_also(attribute, &schema()).expect("an attribute");
    }
    let home = Home(std::env::temp_dir().join(format!("hevlayer-limits-texts-{}", std::process::id())));
    std::fs::create_dir_all(&home.0).expect("a directory");
    // Seven texts of two bytes.
    for (bytes, left_out) in [(14, vec![]), (13, vec!["t".to_owned()])] {
        let mut builder = SegmentBuilder::new(Kind::Uint, every.attributes.clone());
        builder.dictionary_bytes_max = bytes;
        builder.read(&Records(&records.records), &Limits::default()).expect("rows");
        let path = home.0.join("of.columns");
        let built = builder.finish(&path, 1, Origin::default()).expect("a segment");
        assert_eq!((built.rows, &built.left_out), (1_000, &left_out));
        let table = Table::new(Arc::new(Segment::open(&path).expect("a segment")));
        let [numbers, both, ..] = &filters()[..] else { panic!("filters") };
        assert!(table.count(numbers, &Limits::default()).expect("a count").is_some());
        assert_eq!(table.count(both, &Limits::default()).expect("a count").is_some(), left_out.is_empty());
    }
}
