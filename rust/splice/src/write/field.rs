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

pub(super) const RETURN_AFFECTED_IDS: &[u8] = b"return_affected_ids";

/// Keys that say how rows are written or what the namespace is, never which rows.
pub(super) fn touches_no_rows(name: &[u8]) -> bool {
    matches!(
        name,
        b"return_affected_ids"
            | b"delete_by_filter_allow_partial"
            | b"patch_by_filter_allow_partial"
            | b"disable_backpressure"
            | b"encryption"
            | b"sharding"
            | b"create_namespace"
    )
}

impl Field {
    pub const ALL: [Self; 16] = [
        Self::UpsertRows,
        Self::UpsertColumns,
        Self::PatchRows,
        Self::PatchColumns,
        Self::Deletes,
        Self::DeleteByFilter,
        Self::PatchByFilter,
        Self::UpsertCondition,
        Self::PatchCondition,
        Self::DeleteCondition,
        Self::Schema,
        Self::CopyFrom,
        Self::BranchFrom,
        Self::DistanceMetric,
        Self::Upserts,
        Self::Patches,
    ];

    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"upsert_rows" => Self::UpsertRows,
            b"upsert_columns" => Self::UpsertColumns,
            b"patch_rows" => Self::PatchRows,
            b"patch_columns" => Self::PatchColumns,
            b"deletes" => Self::Deletes,
            b"delete_by_filter" => Self::DeleteByFilter,
            b"patch_by_filter" => Self::PatchByFilter,
            b"upsert_condition" => Self::UpsertCondition,
            b"patch_condition" => Self::PatchCondition,
            b"delete_condition" => Self::DeleteCondition,
            b"schema" => Self::Schema,
            b"copy_from_namespace" => Self::CopyFrom,
            b"branch_from_namespace" => Self::BranchFrom,
            b"distance_metric" => Self::DistanceMetric,
            b"upserts" => Self::Upserts,
            b"patches" => Self::Patches,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::UpsertRows => "upsert_rows",
            Self::UpsertColumns => "upsert_columns",
            Self::PatchRows => "patch_rows",
            Self::PatchColumns => "patch_columns",
            Self::Deletes => "deletes",
            Self::DeleteByFilter => "delete_by_filter",
            Self::PatchByFilter => "patch_by_filter",
            Self::UpsertCondition => "upsert_condition",
            Self::PatchCondition => "patch_condition",
            Self::DeleteCondition => "delete_condition",
            Self::Schema => "schema",
            Self::CopyFrom => "copy_from_namespace",
            Self::BranchFrom => "branch_from_namespace",
            Self::DistanceMetric => "distance_metric",
            Self::Upserts => "upserts",
            Self::Patches => "patches",
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for field in Field::ALL {
            assert_eq!(Field::named(field.name().as_bytes()), Some(field));
        }
    }
}
