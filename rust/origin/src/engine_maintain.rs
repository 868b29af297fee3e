//! Background work: folding the log into snapshots, and reclaiming the slots of dead rows.

use crate::engine::{Inner, Namespace};
use crate::store::{write_snapshot, Manifest};
use crate::wal::sync_dir;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often maintenance looks.
const TICK: Duration = Duration::from_millis(100);
/// How many ticks a checkpoint that failed is not tried again.
const FAILED_CHECKPOINT_TICKS: u32 = 100;

pub(crate) struct Maintenance {
    thread: JoinHandle<()>,
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Maintenance {
    pub fn start(inner: &Arc<Inner>) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (weak, signal) = (Arc::downgrade(inner), Arc::clone(&stop));
        let thread =
            std::thread::Builder::new().name("origin-maintain".to_owned()).spawn(move || run(&weak, &signal))?;
        Ok(Self { thread, stop })
    }

    /// Stops once the work at hand is done.
    pub fn stop(self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        let _ = self.thread.join();
    }
}

fn run(inner: &Weak<Inner>, (stopped, signal): &(Mutex<bool>, Condvar)) {
    let mut rest_ticks = 0;
    loop {
        {
            let mut stopped = stopped.lock();
            if !*stopped {
                signal.wait_for(&mut stopped, TICK);
            }
            if *stopped {
                return;
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        inner.compact_touched();
        rest_ticks = match rest_ticks {
            0 if inner.is_checkpoint_due() => match inner.checkpoint() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("origin: a checkpoint failed, the log keeps growing: {error}");
                    FAILED_CHECKPOINT_TICKS
                }
            },
            ticks => u32::saturating_sub(ticks, 1),
        };
    }
}

impl Inner {
    fn compact_touched(&self) {
        let _no_checkpoint = self.manifest.lock();
        let touched = std::mem::take(&mut *self.touched.lock());
        for (incarnation, namespace) in touched {
            if self.compact(&namespace, self.options.compact_slots_min) {
                self.touched.lock().insert(incarnation, namespace);
            }
        }
    }

    /// Reclaims dead slots if there are enough of them. True when it should be looked at again although nothing more
    /// is written: the index will catch up.
    pub(crate) fn compact(&self, namespace: &Namespace, slots_min: usize) -> bool {
        let worth_it =
            |dead: usize, living: usize| dead > slots_min && dead > if slots_min > 0 { living / 2 } else { 0 };
        let mut state = namespace.state.write();
        state.lag.advance(self.now_ms(), self.lag_ms(namespace));
        let is_waiting = !state.lag.is_empty();
        let table = &state.table;
        let (all, living) = (table.slots.len(), table.living_rows);
        if !worth_it(all - living, living) {
            return is_waiting;
        }
        // Writes that are not on disk yet are not visible, so what they replaced still is.
        let floor = self.indexed_seq(namespace, &state);
        if worth_it(state.table.dead_slots(floor), living) {
            state.table.compact(floor);
        }
        is_waiting || state.table.seq < state.table.head
    }

    fn is_checkpoint_due(&self) -> bool {
        let snapshot_bytes: u64 = self.manifest.lock().snapshots.iter().map(|snapshot| snapshot.bytes).sum();
        self.log.bytes() > self.options.checkpoint_bytes_min.max(snapshot_bytes / 2)
    }

    /// Writes snapshots of the namespaces that changed since their last one, then drops the log before. Writers go on.
    pub(crate) fn checkpoint(&self) -> io::Result<()> {
        // Compaction takes this lock too, so slots stay where they are.
        let mut manifest = self.manifest.lock();
        let first_segment = self.log.rotate().map_err(|failed| io::Error::other(failed.0))?;
        let namespaces: Vec<_> = self.namespaces.read().values().cloned().collect();
        let mut snapshots = Vec::with_capacity(namespaces.len());
        for namespace in &namespaces {
            // Whoever logged a write before the rotation has applied it when the writer lock is free.
            let head = {
                let writer = namespace.writer.lock();
                if writer.deleted {
                    continue;
                }
                namespace.state.read().table.head
            };
            let known = manifest.snapshots.iter().find(|snapshot| snapshot.incarnation == namespace.incarnation);
            match known {
                _ if head == 0 => {}
                Some(snapshot) if snapshot.seq == head => snapshots.push(snapshot.clone()),
                _ => {
                    let (name, incarnation) = (&namespace.name, namespace.incarnation);
                    snapshots.push(write_snapshot(&self.dir, name, incarnation, head, &namespace.state)?);
                }
            }
        }
        let next = Manifest {
            first_segment,
            next_incarnation: self.next_incarnation.load(Ordering::Relaxed),
            snapshots,
            ..Manifest::default()
        };
        // The manifest may only name files whose names are durable.
        sync_dir(&self.dir)?;
        next.store(&self.dir)?;
        *manifest = next;
        // From here on the old files are waste; if removing them fails, the next start removes them.
        self.log.remove_before(first_segment)?;
        manifest.sweep(&self.dir)
    }
}
