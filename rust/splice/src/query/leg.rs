//! One query: the members that decide something, and where they stand.

/// The keys of a query that decide something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    RankBy,
    Filters,
    IncludeAttributes,
    ExcludeAttributes,
    AggregateBy,
    RerankBy,
    Consistency,
    Queries,
    Vector,
    NearestToId,
    TopK,
    Limit,
    AsOf,
    Between,
    Cursor,
}

pub(super) const FIELDS: usize = 15;

impl Field {
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"rank_by" => Self::RankBy,
            b"filters" => Self::Filters,
            b"include_attributes" => Self::IncludeAttributes,
            b"exclude_attributes" => Self::ExcludeAttributes,
            b"aggregate_by" => Self::AggregateBy,
            b"rerank_by" => Self::RerankBy,
            b"consistency" => Self::Consistency,
            b"queries" => Self::Queries,
            b"vector" => Self::Vector,
            b"nearest_to_id" => Self::NearestToId,
            b"top_k" => Self::TopK,
            b"limit" => Self::Limit,
            b"as_of" => Self::AsOf,
            b"between" => Self::Between,
            b"cursor" => Self::Cursor,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::RankBy => "rank_by",
            Self::Filters => "filters",
            Self::IncludeAttributes => "include_attributes",
            Self::ExcludeAttributes => "exclude_attributes",
            Self::AggregateBy => "aggregate_by",
            Self::RerankBy => "rerank_by",
            Self::Consistency => "consistency",
            Self::Queries => "queries",
            Self::Vector => "vector",
            Self::NearestToId => "nearest_to_id",
            Self::TopK => "top_k",
            Self::Limit => "limit",
            Self::AsOf => "as_of",
            Self::Between => "between",
            Self::Cursor => "cursor",
        }
    }
}

/// A member that may be edited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub key_start: usize,
    pub key_end: usize,
    pub value_start: usize,
    pub value_end: usize,
    pub is_null: bool,
    /// End of the member before it, `None` for the first.
    pub previous_end: Option<usize>,
    /// Start of the member after it, `None` for the last.
    pub next_start: Option<usize>,
}

/// What `include_attributes` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Include {
    #[default]
    Absent,
    All,
    Other,
}

/// What `exclude_attributes` leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Exclude {
    #[default]
    Absent,
    List {
        /// Position of the closing bracket.
        close: usize,
        empty: bool,
        stamp: bool,
        shard: bool,
    },
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Leg {
    members: [Option<Member>; FIELDS],
    /// Position of the closing brace.
    pub close: usize,
    pub empty: bool,
    pub include: Include,
    pub exclude: Exclude,
    pub knn: bool,
    pub model_rerank: bool,
}

impl Leg {
    /// The member, also when its value is null.
    pub fn member(&self, field: Field) -> Option<&Member> {
        self.members[field as usize].as_ref()
    }

    pub fn put(&mut self, field: Field, member: Member) {
        self.members[field as usize] = Some(member);
    }

    pub fn member_mut(&mut self, field: Field) -> Option<&mut Member> {
        self.members[field as usize].as_mut()
    }

    /// The member stands there and is not null.
    pub fn has(&self, field: Field) -> bool {
        self.member(field).is_some_and(|member| !member.is_null)
    }

    /// The query would return attributes that it does not name, ours among them.
    pub fn wants_reserved(&self) -> bool {
        if self.has(Field::AggregateBy) {
            return false;
        }
        match (self.include, self.exclude) {
            (Include::All, Exclude::Absent) => true,
            (Include::Absent, Exclude::List { stamp, shard, .. }) => !(stamp && shard),
            _ => false,
        }
    }

    /// Concurrency slots upstream.
    pub fn permits(&self) -> u32 {
        if self.has(Field::AggregateBy) {
            4
        } else if self.knn {
            2
        } else {
            1
        }
    }
}
