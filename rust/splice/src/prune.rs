//! Cutting members out of an object without leaving a comma too many.

/// Follows the members of one object and says what to cut for those that go.
#[derive(Debug, Default)]
pub(crate) struct Pruner {
    kept: bool,
    /// Start of the dropped members at the head of the object.
    pending: Option<usize>,
    last_end: usize,
}

impl Pruner {
    /// A member begins; the cut (start, end) of dropped ones before it, if that can be told only now.
    pub fn begin(&mut self, key_start: usize) -> Option<(usize, usize)> {
        self.pending.take().map(|start| (start, key_start))
    }

    pub fn keep(&mut self, value_end: usize) {
        self.kept = true;
        self.last_end = value_end;
    }

    /// The member goes; its cut, if it can be told now.
    pub fn drop(&mut self, key_start: usize, value_end: usize) -> Option<(usize, usize)> {
        let cut = if self.kept {
            Some((self.last_end, value_end))
        } else {
            self.pending = Some(key_start);
            None
        };
        self.last_end = value_end;
        cut
    }

    /// The object ends; the last cut, and whether a member was kept.
    pub fn end(self) -> (Option<(usize, usize)>, bool) {
        (self.pending.map(|start| (start, self.last_end)), self.kept)
    }
}
