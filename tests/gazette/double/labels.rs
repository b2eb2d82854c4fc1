//! Labels and selectors, as brokers take them: for what journals are, and for registers.
//!
//! *Invariants.* A set is sorted by name and value.
//!
//! *Does not* use the library's registers, which are what is tested.

use std::collections::BTreeSet;

use crate::protocol::{Label, LabelSelector, LabelSet};

fn values<'a>(set: &'a LabelSet, name: &str) -> Vec<&'a str> {
    set.labels.iter().filter(|label| label.name == name).map(|label| label.value.as_str()).collect()
}

fn names(set: &LabelSet) -> BTreeSet<&str> {
    set.labels.iter().map(|label| label.name.as_str()).collect()
}

fn has(set: &LabelSet, wanted: &Label) -> bool {
    values(set, &wanted.name).iter().any(|value| {
        wanted.value.is_empty()
            || *value == wanted.value
            || wanted.prefix && value.starts_with(wanted.value.as_str())
    })
}

/// Tells whether a set is selected: of each name that is included one value, and nothing that is excluded.
pub(super) fn matches(selector: &LabelSelector, set: &LabelSet) -> bool {
    let (include, exclude) =
        (selector.include.clone().unwrap_or_default(), selector.exclude.clone().unwrap_or_default());
    let is_included = |name: &&str| {
        let mut wanted = include.labels.iter().filter(|label| label.name == **name);
        wanted.any(|label| has(set, label))
    };
    names(&include).iter().all(is_included) && !exclude.labels.iter().any(|label| has(set, label))
}

/// Tells whether registers pass a check: an empty set passes each.
pub(super) fn permits(check: Option<&LabelSelector>, registers: &LabelSet) -> bool {
    registers.labels.is_empty() || check.is_none_or(|check| matches(check, registers))
}

/// Returns registers without each name whose values are exactly those of `gone`.
pub(super) fn subtract(set: &LabelSet, gone: &LabelSet) -> LabelSet {
    let mut left = set.clone();
    left.labels.retain(|label| {
        let gone = values(gone, &label.name);
        gone.is_empty() || gone != values(set, &label.name)
    });
    left
}

/// Returns registers with all values of each name that `new` has replaced by its own.
pub(super) fn union(set: &LabelSet, new: &LabelSet) -> LabelSet {
    let replaced = names(new);
    let mut labels: Vec<_> =
        set.labels.iter().filter(|label| !replaced.contains(label.name.as_str())).cloned().collect();
    labels.extend(new.labels.iter().cloned());
    labels.sort_by(|one, other| (&one.name, &one.value).cmp(&(&other.name, &other.value)));
    LabelSet { labels }
}
