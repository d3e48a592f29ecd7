//! Lists of things with categories: an item, a list of items, or a mapping of categories to them.
//!
//! Categories exist so that the later boots of a job can replace a part of what the first boot had.

use std::collections::BTreeMap;

use crate::{
    error::Report,
    yaml::{Kind, Node},
};

/// The key under which a mapping of categories has what belongs to none.
pub(crate) const UNCATEGORISED: &str = ":uncategorised";

/// Things by category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ComplexList<T> {
    categories: BTreeMap<String, Vec<T>>,
    uncategorised: Vec<T>,
}

impl<T> Default for ComplexList<T> {
    fn default() -> Self {
        Self { categories: BTreeMap::new(), uncategorised: Vec::new() }
    }
}

impl<T: Clone> ComplexList<T> {
    /// Reads one. `is_item` tells a mapping that is an item from one of categories.
    pub(crate) fn read(
        node: &Node,
        report: &mut Report<'_>,
        is_item: fn(&Node) -> bool,
        read_item: &mut dyn FnMut(&Node, &mut Report<'_>) -> Option<T>,
    ) -> Self {
        let mut list = Self::default();
        match &node.kind {
            Kind::Map(entries) if !is_item(node) => {
                for (key, value) in entries {
                    let items = items(value, report, read_item);
                    if key.text == UNCATEGORISED {
                        list.uncategorised = items;
                    } else {
                        list.categories.insert(key.text.clone(), items);
                    }
                }
            }
            _ => list.uncategorised = items(node, report, read_item),
        }
        list
    }

    /// What a later boot has: a category that it names replaces that one, others are inherited, and what it has
    /// without category replaces what there was, unless it is nothing.
    pub(crate) fn updated_by(&self, later: &Self) -> Self {
        let mut list = self.clone();
        list.categories.extend(later.categories.iter().map(|(name, items)| (name.clone(), items.clone())));
        if !later.uncategorised.is_empty() {
            list.uncategorised.clone_from(&later.uncategorised);
        }
        list
    }

    /// All of it in order: categories by name, then the rest.
    pub(crate) fn flatten(&self) -> Vec<T> {
        self.categories.values().chain([&self.uncategorised]).flatten().cloned().collect()
    }
}

fn items<T>(
    node: &Node,
    report: &mut Report<'_>,
    read_item: &mut dyn FnMut(&Node, &mut Report<'_>) -> Option<T>,
) -> Vec<T> {
    match &node.kind {
        _ if node.is_null() => Vec::new(),
        Kind::List(items) => items.iter().filter_map(|item| read_item(item, report)).collect(),
        _ => read_item(node, report).into_iter().collect(),
    }
}
