//! Measures candidates for the embedded cache engine on the same rows, each in a directory of its own.
//!
//! `cache-bench DIRECTORY RESULT.json [MEBIBYTES]`: point gets warm and cold, batches, scans, writes, space, eviction.

mod candidates;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candidates::open;
use serde_json::{json, Value};

const NAMES: [&str; 4] = ["lmdb-index+log", "lmdb", "fjall", "memory-index+log"];
const SIZES: [usize; 3] = [1 << 10, 4 << 10, 20 << 10];
const WARM_GETS: usize = 100_000;
const COLD_GETS: usize = 2_000;
const BATCHES: usize = 1_000;
const SMALL_WRITES: usize = 2_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Text that compresses about as a document does: half of it from a short alphabet.
fn value(random: &mut Random, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 8);
    while out.len() < size {
        let word = random.next();
        out.extend_from_slice(format!("{:08x}", word as u32).as_bytes());
        out.extend_from_slice(b", the ");
    }
    out.truncate(size);
    out
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn disk_bytes(directory: &Path) -> u64 {
    files(directory).iter().map(|path| fs::metadata(path).map_or(0, |facts| facts.blocks() * 512)).sum()
}

fn drop_page_cache(directory: &Path) {
    for path in files(directory) {
        if let Ok(file) = File::open(path) {
            let _ = file.sync_all();
            // SAFETY: the descriptor is open; the call takes no memory of ours.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
    }
}

fn quantiles(mut nanos: Vec<u64>) -> Value {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    json!({"p50_us": at(0.5), "p99_us": at(0.99)})
}

fn time(mut call: impl FnMut()) -> u64 {
    let started = Instant::now();
    call();
    started.elapsed().as_nanos() as u64
}

fn resident_anonymous_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn measure(name: &str, directory: &Path, size: usize, data_bytes: usize) -> Value {
    let _ = fs::remove_dir_all(directory);
    let mut random = Random(88_172_645_463_325_252);
    let count = data_bytes / size;
    let keys: Vec<Vec<u8>> = (0..count).map(|_| format!("\x02doc-{:016x}", random.next()).into_bytes()).collect();
    let before = resident_anonymous_bytes();
    let mut store = open(name, directory);

    let mut seconds = 0.0;
    for chunk in keys.chunks(100) {
        let rows: Vec<_> = chunk.iter().map(|key| (key.clone(), value(&mut random, size))).collect();
        seconds += time(|| store.put(&rows)) as f64 / 1e9;
    }
    let written = json!({"rows_per_second": count as f64 / seconds, "mb_per_second": data_bytes as f64 / seconds / 1e6});

    let mut out = Vec::with_capacity(size);
    let mut get = |store: &dyn candidates::Candidate, key: &[u8]| {
        out.clear();
        assert!(store.get(key, &mut out));
        assert_eq!(out.len(), size);
    };
    keys.iter().for_each(|key| get(&*store, key));
    let warm = (0..WARM_GETS).map(|_| { let key = &keys[random.below(count)]; time(|| get(&*store, key)) }).collect();
    let batches = (0..BATCHES)
        .map(|_| {
            let wanted: Vec<_> = (0..100).map(|_| random.below(count)).collect();
            time(|| wanted.iter().for_each(|index| get(&*store, &keys[*index])))
        })
        .collect();
    let scan = |store: &dyn candidates::Candidate| {
        let mut bytes = 0;
        let nanos = time(|| bytes = store.scan().0);
        bytes as f64 / nanos as f64
    };
    let mut scans: Vec<f64> = (0..5).map(|_| scan(&*store)).collect();
    scans.sort_by(f64::total_cmp);
    let held = resident_anonymous_bytes().saturating_sub(before);

    store.close();
    let space = disk_bytes(directory) as f64 / data_bytes as f64;
    drop_page_cache(directory);
    let mut store = None;
    let reopened = time(|| store = Some(open(name, directory))) as f64 / 1e6;
    let mut store = store.expect("a store");
    let cold = (0..COLD_GETS).map(|_| { let key = &keys[random.below(count)]; time(|| get(&*store, key)) }).collect();

    let small: Vec<u64> = (0..SMALL_WRITES)
        .map(|number| {
            let row = [(format!("\x03mark-{number}").into_bytes(), vec![7_u8; 40])];
            time(|| store.put(&row))
        })
        .collect();
    let mut evicted = 0;
    let evicting = time(|| evicted = store.evict_a_tenth(&keys)) as f64 / 1e9;
    let fresh: Vec<_> = (0..evicted).map(|number| format!("\x02new-{number:012}").into_bytes()).collect();
    let mut refill = 0.0;
    for chunk in fresh.chunks(100) {
        let rows: Vec<_> = chunk.iter().map(|key| (key.clone(), value(&mut random, size))).collect();
        refill += time(|| store.put(&rows)) as f64 / 1e9;
    }
    store.close();
    let after = disk_bytes(directory) as f64 / data_bytes as f64;
    let _ = fs::remove_dir_all(directory);
    json!({
        "candidate": name, "value_bytes": size, "rows": count, "write": written,
        "get_warm": quantiles(warm), "get_cold": quantiles(cold), "batch_100_warm": quantiles(batches),
        "scan_gb_per_second": scans[2], "space_ratio": space, "resident_anonymous_mb": held as f64 / 1e6,
        "reopen_ms": reopened, "small_write": quantiles(small),
        "at_the_cap": {"evicted_rows": evicted, "evicted_rows_per_second": evicted as f64 / evicting,
                       "rows_put_after_per_second": evicted as f64 / refill, "space_ratio_after": after},
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, result, rest @ ..] = arguments.as_slice() else {
        panic!("usage: cache-bench DIRECTORY RESULT.json [MEBIBYTES]");
    };
    let mebibytes: usize = rest.first().map_or(512, |text| text.parse().expect("mebibytes"));
    let mut results = Vec::new();
    for size in SIZES {
        for name in NAMES {
            let found = measure(name, &Path::new(directory).join(name), size, mebibytes << 20);
            println!("{found}");
            results.push(found);
        }
    }
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?").to_owned();
    let report = json!({"suite": "cache-candidates", "date": "2026-11-21", "cpu": cpu, "data_mib": mebibytes,
                        "results": results});
    fs::write(result, serde_json::to_string_pretty(&report).expect("JSON") + "\n").expect("a result");
}
