//! The shard of a row: xxh64 of its id as text, seed 0, modulo the number of shards.

use xxhash_rust::xxh64::xxh64;

use crate::id::canonical_uuid;

/// A number of shards that a namespace may have.
pub const SHARDS_MAX: u32 = 256;

/// The shard of an integer id, hashed as its decimal text.
#[must_use]
pub fn uint_shard(id: u64, shards: u32) -> u32 {
    shard(itoa::Buffer::new().format(id).as_bytes(), shards)
}

/// The shard of a string id; whatever reads as a uuid is hashed in its canonical form, so that spellings agree.
#[must_use]
pub fn text_shard(id: &str, shards: u32) -> u32 {
    match canonical_uuid(id) {
        Some(canonical) => shard(&canonical, shards),
        None => shard(id.as_bytes(), shards),
    }
}

#[allow(clippy::cast_possible_truncation)] // less than `shards`
fn shard(text: &[u8], shards: u32) -> u32 {
    (xxh64(text, 0) % u64::from(shards.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // xxh64 of the empty text, of "1" and of "abc" with seed 0, as published.
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(u64::from(text_shard("abc", 7)), 0x44bc_2cf5_ad77_0999 % 7);
        assert_eq!(uint_shard(1, 256), text_shard("1", 256));
    }

    #[test]
    fn spellings_of_a_uuid_agree() {
        let canonical = "0f8fad5b-d9cb-469f-a165-70867728950e";
        for spelling in [canonical.to_uppercase(), canonical.replace('-', ""), format!("urn:uuid:{canonical}")] {
            assert_eq!(text_shard(&spelling, 256), text_shard(canonical, 256));
        }
    }
}
