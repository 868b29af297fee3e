//! A directory of its own for each test, and an engine's calls in a few words.

#![allow(dead_code, reason = "each test crate uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use hevlayer_cache::{Call, Engine, Lookup, Options, Outcome, Projection, Rows, Settle};

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);
pub const UNKNOWN_MS: u64 = 120_000;
pub const TTL_MS: u64 = 1_000_000;
pub const KEY: &[u8] = b"\x02a";
pub const A: &str = r#"{"id":"a","attributes":{"t":"x"}}"#;

pub struct Home(pub PathBuf);

impl Home {
    pub fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hevlayer-cache-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }

    pub fn options(&self) -> Options {
        Options {
            directory: self.0.clone(),
            identity: "https://upstream".to_owned(),
            capacity_bytes: 1 << 30,
            namespace_capacity_bytes: 0,
            ttl_ms: TTL_MS,
            unknown_write_ms: UNKNOWN_MS,
        }
    }

    pub fn open(&self, now_ms: u64) -> Engine {
        Engine::open(&self.options(), now_ms).expect("an engine")
    }

    pub fn open_of(&self, capacity_bytes: u64) -> Engine {
        Engine::open(&Options { capacity_bytes, ..self.options() }, 0).expect("an engine")
    }

    /// Rewrites the state file as the machine's earlier boot would have left it.
    pub fn reboot(&self) {
        let path = self.0.join("state");
        let text = fs::read_to_string(&path).expect("a state");
        let lines: Vec<_> =
            text.lines().map(|line| if line.starts_with("boot") { "boot earlier" } else { line }).collect();
        fs::write(path, lines.join("\n") + "\n").expect("a state");
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn id_key(id: &str) -> Vec<u8> {
    [b"\x02", id.as_bytes()].concat()
}

pub fn rows(id: &str, body: &str) -> Rows {
    Rows::read(
        format!(r#"{{"rows":[{{"id":"{id}","t":"{body}","vector":[1.5]}}]}}"#).as_bytes(),
        &["vector".to_owned()],
    )
    .expect("rows")
}

pub fn look(engine: &Engine, key: &[u8], now_ms: u64) -> Lookup {
    engine.lookup("ns", key, &Projection::Plain, None, now_ms, true).expect("a lookup")
}

pub fn ticket(engine: &Engine, key: &[u8], now_ms: u64) -> i64 {
    match look(engine, key, now_ms) {
        Lookup::Ticket(ticket) if ticket > 0 => ticket,
        other => panic!("expected nothing, found {other:?}"),
    }
}

/// Whether the id may neither be served nor filled.
pub fn is_shut(engine: &Engine, key: &[u8], now_ms: u64) -> bool {
    matches!(look(engine, key, now_ms), Lookup::Ticket(ticket) if ticket <= 0)
}

pub fn fill_with(engine: &Engine, id: &str, body: &str, ticket: i64, now_ms: u64) -> usize {
    let rows = Arc::new(rows(id, body));
    let keys = vec![id_key(id).into()];
    engine.call(Call::Fill { namespace: "ns".into(), rows, keys, tickets: vec![ticket], now_ms }).expect("a fill").put
}

pub fn fill(engine: &Engine, id: &str, body: &str, now_ms: u64) -> usize {
    let found = ticket(engine, &id_key(id), now_ms);
    fill_with(engine, id, body, found, now_ms)
}

pub fn served(engine: &Engine, key: &[u8], now_ms: u64) -> Option<String> {
    match look(engine, key, now_ms) {
        Lookup::Hit(text) => Some(String::from_utf8(text).expect("UTF-8")),
        _ => None,
    }
}

pub fn mark(engine: &Engine, token: u64, keys: Option<Vec<&[u8]>>, deadline_ms: u64) {
    let keys = keys.map(|keys| keys.into_iter().map(Into::into).collect());
    engine.call(Call::Mark { token, namespace: "ns".into(), keys, deadline_ms }).expect("a mark");
}

pub fn settle(engine: &Engine, token: u64, outcome: Outcome, rows: Option<Rows>, now_ms: u64) -> bool {
    let (changed, deleted) = (None, std::collections::HashSet::new());
    let rows = rows.map(Arc::new);
    let settle = Settle { token, namespace: "ns".into(), outcome, changed, rows, deleted, now_ms };
    engine.call(Call::Settle(settle)).expect("a settle").found
}

pub fn clear(engine: &Engine) {
    engine.call(Call::Clear { namespace: "ns".into() }).expect("a clear");
}

pub fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
        .collect();
    found.sort();
    found
}

/// Changes the first byte of what is found in a file, in place.
pub fn flip(path: &Path, wanted: &[u8]) {
    use std::os::unix::fs::FileExt;
    let bytes = fs::read(path).expect("a file");
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).expect("a place");
    let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.write_all_at(&[bytes[at] ^ 0x41], at as u64).expect("a write");
}
