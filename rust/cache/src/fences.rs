//! The write clock: a read that began before an id was last touched may neither fill it nor be shared.
//!
//! A table of fixed size by the id's hash. Two ids that share a bucket cost a refused fill, never a wrong one; so
//! nothing has to be kept per id, and nothing expires.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const BUCKETS: usize = 1 << 17;

#[derive(Debug)]
pub struct Fences {
    buckets: Box<[u64]>,
    now: u64,
}

impl Default for Fences {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), now: 1 }
    }
}

impl Fences {
    fn bucket(namespace: &str, key: &[u8]) -> usize {
        let seed = xxh3_64_with_seed(namespace.as_bytes(), 0);
        // The mask keeps the index below BUCKETS on every platform.
        #[allow(clippy::cast_possible_truncation)]
        let hash = xxh3_64_with_seed(key, seed) as usize;
        hash & (BUCKETS - 1)
    }

    /// The present; a read that begins now carries it.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Moves the clock on and gives the new present.
    pub fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Every read that began until now is too old for `key`.
    pub fn touch(&mut self, namespace: &str, key: &[u8]) {
        let now = self.tick();
        self.buckets[Self::bucket(namespace, key)] = now;
    }

    /// When `key`, or an id that shares its bucket, was last touched; 0 for never.
    pub fn touched(&self, namespace: &str, key: &[u8]) -> u64 {
        self.buckets[Self::bucket(namespace, key)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touch_ages_the_reads_before_it_only() {
        let mut fences = Fences::default();
        let before = fences.now();
        fences.touch("ns", b"a");
        assert!(fences.touched("ns", b"a") > before);
        assert!(fences.touched("ns", b"a") <= fences.now());
        assert_eq!(fences.touched("other", b"a"), 0);
    }
}
