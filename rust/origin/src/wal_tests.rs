use super::*;
use crate::testing::TempDir;
use std::sync::Arc;

fn records(dir: &Path, segment: u64) -> (Vec<Vec<u8>>, SegmentRead) {
    let mut found = Vec::new();
    let read = read_segment(dir, segment, |record| {
        found.push(record.to_vec());
        Ok(())
    })
    .expect("readable");
    (found, read)
}

fn put(log: &Log, record: &[u8]) {
    let ticket = log.append(&frame(record)).expect("open");
    log.wait(ticket).expect("durable");
}

#[test]
fn what_was_waited_for_is_there() {
    let dir = TempDir::new("wal");
    let log = Log::open(dir.path(), 1, None, 0).expect("opens");
    put(&log, b"one");
    put(&log, b"two");
    assert_eq!(log.rotate(), Ok(2));
    put(&log, b"three");
    assert_eq!(list_segments(dir.path()).expect("listed"), [1, 2]);
    assert_eq!(records(dir.path(), 1).0, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(records(dir.path(), 2).0, [b"three".to_vec()]);
    log.remove_before(2).expect("removed");
    assert_eq!(list_segments(dir.path()).expect("listed"), [2]);
    assert_eq!(log.bytes(), std::fs::metadata(segment_path(dir.path(), 2)).expect("there").len());
}

#[test]
fn a_torn_tail_is_cut_at_every_length() {
    let dir = TempDir::new("wal");
    let log = Log::open(dir.path(), 1, None, 0).expect("opens");
    put(&log, b"one");
    put(&log, b"second");
    drop(log);
    let path = segment_path(dir.path(), 1);
    let whole = std::fs::read(&path).expect("readable");
    let second_at = whole.len() - FRAME_HEADER_BYTES - b"second".len();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("written");
        let (found, read) = records(dir.path(), 1);
        let kept = usize::from(length >= second_at);
        assert_eq!(found.len(), kept, "{length}");
        assert_eq!(read.good_bytes + read.torn_bytes, length as u64);
        let log = Log::open(dir.path(), 1, Some((1, read)), 0).expect("continues");
        put(&log, b"after");
        drop(log);
        let (found, read) = records(dir.path(), 1);
        assert_eq!((found.len(), read.torn_bytes), (kept + 1, 0));
        assert_eq!(found.last().map(Vec::as_slice), Some(&b"after"[..]));
    }
}

#[test]
fn a_damaged_byte_ends_the_log() {
    let dir = TempDir::new("wal");
    let log = Log::open(dir.path(), 1, None, 0).expect("opens");
    put(&log, b"one");
    put(&log, b"two");
    drop(log);
    let path = segment_path(dir.path(), 1);
    let mut bytes = std::fs::read(&path).expect("readable");
    *bytes.last_mut().expect("not empty") ^= 1;
    bytes.extend_from_slice(&[0; 100]);
    std::fs::write(&path, &bytes).expect("written");
    let (found, read) = records(dir.path(), 1);
    assert_eq!(found, [b"one".to_vec()]);
    assert_eq!(read.torn_bytes, 100 + FRAME_HEADER_BYTES as u64 + 3);
    bytes[0] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    assert!(read_segment(dir.path(), 1, |_| Ok(())).is_err());
}

#[test]
fn writers_who_wait_share_a_sync_and_keep_their_order() {
    const WRITERS: u64 = 8;
    const RECORDS: u64 = 50;
    let dir = TempDir::new("wal");
    let log = Arc::new(Log::open(dir.path(), 1, None, 0).expect("opens"));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let log = Arc::clone(&log);
            scope.spawn(move || {
                for number in 0..RECORDS {
                    put(&log, format!("{writer} {number}").as_bytes());
                }
            });
        }
        log.rotate().expect("rotates under load");
    });
    assert!(log.syncs() <= WRITERS * RECORDS);
    let mut found = records(dir.path(), 1).0;
    found.extend(records(dir.path(), 2).0);
    for writer in 0..WRITERS {
        let own: Vec<_> = found
            .iter()
            .map(|record| String::from_utf8_lossy(record).into_owned())
            .filter(|record| record.starts_with(&format!("{writer} ")))
            .collect();
        assert_eq!(own, (0..RECORDS).map(|number| format!("{writer} {number}")).collect::<Vec<_>>());
    }
}

#[test]
fn one_sync_carries_everything_that_gathered() {
    let dir = TempDir::new("wal");
    let log = Log::open(dir.path(), 1, None, 0).expect("opens");
    let tickets: Vec<u64> = (0..100u8).map(|number| log.append(&frame(&[number])).expect("open")).collect();
    log.wait(tickets[0]).expect("durable");
    log.wait(tickets[99]).expect("durable");
    assert_eq!(log.syncs(), 1);
}

#[test]
fn a_full_disk_closes_the_log_for_good() {
    let dir = TempDir::new("wal");
    let log = Log::open(dir.path(), 1, None, 0).expect("opens");
    put(&log, b"one");
    let real = log.state.lock().file.take();
    log.fail_from_now();
    let ticket = log.append(&frame(b"two")).expect("taken");
    let failed = log.wait(ticket).expect_err("no room");
    assert!(failed.0.contains("writing the log failed"), "{}", failed.0);
    // Even with room again: what the failed write left behind is not known.
    log.state.lock().file = real;
    assert_eq!(log.append(&frame(b"three")), Err(failed.clone()));
    assert_eq!(log.rotate(), Err(failed));
    assert_eq!(records(dir.path(), 1).0, [b"one".to_vec()]);
}
