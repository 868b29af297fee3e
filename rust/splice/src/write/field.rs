//! The keys of a write body.

/// The top-level keys of a write that decide something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    UpsertRows,
    UpsertColumns,
    PatchRows,
    PatchColumns,
    Deletes,
    DeleteByFilter,
    PatchByFilter,
    UpsertCondition,
    PatchCondition,
    DeleteCondition,
    Schema,
    CopyFrom,
    BranchFrom,
    DistanceMetric,
    Upserts,
    Patches,
}

impl Field {
    pub const ALL: [(&'static str, Self); 16] = [
        ("upsert_rows", Self::UpsertRows),
        ("upsert_columns", Self::UpsertColumns),
        ("patch_rows", Self::PatchRows),
        ("patch_columns", Self::PatchColumns),
        ("deletes", Self::Deletes),
        ("delete_by_filter", Self::DeleteByFilter),
        ("patch_by_filter", Self::PatchByFilter),
        ("upsert_condition", Self::UpsertCondition),
        ("patch_condition", Self::PatchCondition),
        ("delete_condition", Self::DeleteCondition),
        ("schema", Self::Schema),
        ("copy_from_namespace", Self::CopyFrom),
        ("branch_from_namespace", Self::BranchFrom),
        ("distance_metric", Self::DistanceMetric),
        ("upserts", Self::Upserts),
        ("patches", Self::Patches),
    ];

    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| known.as_bytes() == name)
            .map(|&(_, field)| field)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|&&(_, field)| field == self).map_or("", |&(name, _)| name)
    }

    pub fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Only the Layer dialect has it.
    pub fn is_layer(self) -> bool {
        matches!(self, Self::Upserts | Self::Patches)
    }

    /// Only the native dialect has it, and it changes rows.
    pub fn is_native(self) -> bool {
        matches!(
            self,
            Self::UpsertRows
                | Self::UpsertColumns
                | Self::PatchRows
                | Self::PatchColumns
                | Self::DeleteByFilter
                | Self::PatchByFilter
                | Self::CopyFrom
                | Self::BranchFrom
        )
    }

    /// The method PATCH takes it, as far as it changes rows.
    pub fn is_patch(self) -> bool {
        matches!(self, Self::PatchRows | Self::PatchColumns | Self::PatchByFilter | Self::Patches)
    }

    pub fn changes_rows(self) -> bool {
        self.is_native() || self.is_layer() || self == Self::Deletes
    }
}
