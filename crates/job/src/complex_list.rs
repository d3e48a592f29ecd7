//! Lists of things with categories.
//!
//! Categories exist so that the later boots of a job can replace a part of what the first boot had, and a job a part
//! of what its machine boots by default. Where the places of a written list matter, the reader is in `document`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The key under which a mapping of categories has what belongs to none.
pub const UNCATEGORISED: &str = ":uncategorised";

/// Things by category.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComplexList<T> {
    /// By name. An empty one is none of that name, whatever there was before.
    pub categories: BTreeMap<String, Vec<T>>,
    /// What belongs to no category.
    pub uncategorised: Vec<T>,
}

impl<T> Default for ComplexList<T> {
    fn default() -> Self {
        Self { categories: BTreeMap::new(), uncategorised: Vec::new() }
    }
}

impl<T: Clone> ComplexList<T> {
    /// This list with `later` laid over it: a category that `later` names replaces that one, others are inherited,
    /// and what it has without category replaces what there was, unless it is nothing.
    #[must_use]
    pub fn updated_by(&self, later: &Self) -> Self {
        let mut list = self.clone();
        list.categories.extend(later.categories.iter().map(|(name, items)| (name.clone(), items.clone())));
        if !later.uncategorised.is_empty() {
            list.uncategorised.clone_from(&later.uncategorised);
        }
        list
    }

    /// All of it in order: categories by name, then the rest.
    pub fn flatten(&self) -> Vec<T> {
        self.iter().cloned().collect()
    }

    /// All of it where the first that fits wins: what has no category goes before the categories, because the job's
    /// own things stand there, and what it inherits stands in categories.
    pub fn by_precedence(&self) -> Vec<T> {
        [&self.uncategorised].into_iter().chain(self.categories.values()).flatten().cloned().collect()
    }
}

impl<T> ComplexList<T> {
    /// All of it in the order of [`ComplexList::flatten`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.categories.values().chain([&self.uncategorised]).flatten()
    }
}
