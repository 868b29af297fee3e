//! The memory that bodies which come with their heads may take together, over all connections.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Shorter bodies are not counted: their connection takes as much.
pub const UNCOUNTED_BYTES_MAX: u64 = 16 << 10;

#[derive(Debug)]
struct Room {
    bytes_max: u64,
    used: AtomicU64,
}

/// Shared by the readers of a server's connections.
#[derive(Clone, Debug)]
pub struct BodyRoom(Arc<Room>);

/// A body's part of it, given back when it is dropped.
#[derive(Debug)]
pub struct BodyShare {
    room: BodyRoom,
    bytes: u64,
}

impl BodyRoom {
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Room { bytes_max, used: AtomicU64::new(0) }))
    }

    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// None: there is no room for a body of so many bytes.
    pub(crate) fn take(&self, bytes: u64) -> Option<BodyShare> {
        let bytes = if bytes <= UNCOUNTED_BYTES_MAX { 0 } else { bytes };
        let add = |used: u64| used.checked_add(bytes).filter(|used| bytes == 0 || *used <= self.0.bytes_max);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(BodyShare { room: self.clone(), bytes })
    }
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        self.room.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_back() {
        let room = BodyRoom::new(100_000);
        let first = room.take(60_000).expect("there is room");
        assert!(room.take(60_000).is_none());
        let second = room.take(40_000).expect("there is room");
        assert_eq!(room.used(), 100_000);
        assert!(room.take(UNCOUNTED_BYTES_MAX + 1).is_none());
        let small = room.take(UNCOUNTED_BYTES_MAX).expect("a short one always has room");
        assert_eq!(room.used(), 100_000);
        drop((first, small));
        assert_eq!(room.used(), 40_000);
        drop(second);
        assert_eq!(room.used(), 0);
    }
}
