//! Byte-level JSON: finds keys, splices edits in, and never builds a tree.
