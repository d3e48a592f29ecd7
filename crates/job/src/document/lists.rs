//! Reading lists with categories, and comparing those of `continue` with those of `start`.

use farmgate_protocol::spelling;

use crate::{
    ComplexList,
    check::one_or_several,
    complex_list::UNCATEGORISED,
    error::Report,
    yaml::{Kind, Node},
};

/// Reads one thing of a list.
pub(super) type ReadItem<'a, T> = &'a mut dyn FnMut(&Node, &mut Report<'_>) -> Option<T>;

/// Reads a list. `item_fields`: a mapping with one of these fields is an item, not one of categories.
pub(super) fn read<T>(
    node: &Node,
    item_fields: &[&str],
    report: &mut Report<'_>,
    read_item: ReadItem<'_, T>,
) -> ComplexList<T> {
    let mut list = ComplexList::default();
    match &node.kind {
        Kind::Map(entries) if !is_item(node, item_fields) => {
            for (key, value) in entries {
                if is_misspelt_field(&key.text, value, item_fields, report) {
                    continue;
                }
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

fn items<T>(node: &Node, report: &mut Report<'_>, read_item: ReadItem<'_, T>) -> Vec<T> {
    one_or_several(node).iter().filter_map(|item| read_item(item, report)).collect()
}

fn is_item(node: &Node, item_fields: &[&str]) -> bool {
    match &node.kind {
        Kind::Map(entries) => entries.iter().any(|(key, _)| item_fields.contains(&key.text.as_str())),
        _ => false,
    }
}

/// `{ulr: http://...}` looks like a category; but a category of mappings has no text as its value.
fn is_misspelt_field(key: &str, value: &Node, item_fields: &[&str], report: &mut Report<'_>) -> bool {
    let text = matches!(value.kind, Kind::Scalar { .. }) && !value.is_null();
    let meant = spelling::nearest(key, item_fields.iter().copied());
    let (true, Some(meant)) = (text, meant.first()) else { return false };
    let message =
        format!("the category `{key}` must be a mapping or a list of them, not {}", value.describe());
    report.problem_with_help(value.at, message, format!("did you mean the field `{meant}`?"));
    true
}

/// Warns of categories in `continue` that hardly mean what they do. `path` is that of the list there.
pub(super) fn compare<T>(
    start: &ComplexList<T>,
    later: &Node,
    path: &str,
    fields: &[&str],
    report: &mut Report<'_>,
) {
    let Kind::Map(entries) = &later.kind else { return };
    if is_item(later, fields) {
        return;
    }
    for (key, value) in entries.iter().filter(|(key, _)| key.text != UNCATEGORISED) {
        let before = start.categories.get(&key.text);
        if value.is_null() && before.is_some_and(|items| !items.is_empty()) {
            let text = format!(
                "`{path}.{0}` is empty (is a variable not defined?): it drops the category `{0}` of `start`; \
                 write `[]` if that is meant",
                key.text
            );
            report.warning(key.at, text);
        } else if before.is_none()
            && let Some(meant) =
                spelling::nearest(&key.text, start.categories.keys().map(String::as_str)).first()
        {
            let text = format!(
                "`{path}.{}` replaces nothing: `start` has no such category, but one named `{meant}`",
                key.text
            );
            report.warning(key.at, text);
        }
    }
}
