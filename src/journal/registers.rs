//! Registers: the small set of labels that an append may check and change, with Gazette's semantics.
//!
//! *Invariants.* A set is sorted by (name, value) and holds no pair twice.
//!
//! *Does not* validate names: a register of a foreign journal is kept as it is.

use std::fmt;
use std::sync::Arc;

/// One label: a name and one of its values.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Register {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl Register {
    /// Makes a register.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// A set of registers, sorted and without repetitions; cheap to clone, for each append carries some.
///
/// The empty set is `None`, so that equal sets are equal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegisterSet(Option<Arc<[Register]>>);

impl RegisterSet {
    /// The empty set, as of a journal whose registers were never written, or were lost.
    pub const EMPTY: Self = Self(None);

    /// Tells whether no register is set.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the registers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Register> {
        self.as_slice().iter()
    }

    /// Returns the values of `name`, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |register| register.name == name).map(|register| register.value.as_str())
    }

    /// Returns this set with every name of `other` given exactly the values it has there.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let kept = self.iter().filter(|register| other.values(&register.name).next().is_none());
        kept.chain(other.iter()).cloned().collect()
    }

    /// Returns this set without the names whose values are exactly those they have in `other`.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let kept = |register: &&Register| !self.values(&register.name).eq(other.values(&register.name));
        self.iter().filter(kept).cloned().collect()
    }

    fn as_slice(&self) -> &[Register] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl FromIterator<Register> for RegisterSet {
    fn from_iter<I: IntoIterator<Item = Register>>(registers: I) -> Self {
        let mut registers = registers.into_iter().collect::<Vec<_>>();
        registers.sort();
        registers.dedup();
        Self((!registers.is_empty()).then(|| registers.into()))
    }
}

impl fmt::Display for RegisterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, register) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}={}", register.name, register.value)?;
        }
        f.write_str("}")
    }
}

/// What a set of registers must satisfy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RegisterSelector {
    /// Every name here needs one matching value; an empty value matches any.
    pub include: RegisterSet,
    /// None of these may match; an empty value matches any.
    pub exclude: RegisterSet,
}

impl RegisterSelector {
    /// Demands that `name` has `value`.
    pub fn include(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { include: RegisterSet::from_iter([Register::new(name, value)]), exclude: RegisterSet::EMPTY }
    }

    /// Tells whether an append with this check may commit over `registers`.
    ///
    /// An empty set passes every check: registers that were lost cannot fence.
    pub fn permits(&self, registers: &RegisterSet) -> bool {
        registers.is_empty() || self.matches(registers)
    }

    /// Tells whether `registers` satisfy the selector.
    pub fn matches(&self, registers: &RegisterSet) -> bool {
        let has = |wanted: &Register| {
            registers.values(&wanted.name).any(|value| wanted.value.is_empty() || wanted.value == value)
        };
        let included =
            |wanted: &Register| self.include.iter().any(|other| other.name == wanted.name && has(other));
        self.include.iter().all(included) && !self.exclude.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> RegisterSet {
        pairs.iter().map(|(name, value)| Register::new(*name, *value)).collect()
    }

    #[test]
    fn union_replaces_all_values_of_the_names_it_brings() {
        let before = set(&[("author", "a"), ("author", "b"), ("other", "x")]);
        let after = before.union(&set(&[("author", "c"), ("new", "y")]));
        assert_eq!(after, set(&[("author", "c"), ("new", "y"), ("other", "x")]));
    }

    #[test]
    fn subtract_removes_a_name_only_when_its_whole_value_list_matches() {
        let before = set(&[("a", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(before.subtract(&set(&[("a", "1")])), before);
        assert_eq!(before.subtract(&set(&[("a", "1"), ("a", "2")])), set(&[("b", "3")]));
    }

    #[test]
    fn an_empty_set_passes_every_check() {
        let check = RegisterSelector::include("author", "x");
        assert!(check.permits(&RegisterSet::EMPTY));
        assert!(!check.matches(&RegisterSet::EMPTY));
        assert!(check.permits(&set(&[("author", "x")])));
        assert!(!check.permits(&set(&[("author", "y")])));
        assert!(!check.permits(&set(&[("other", "x")])));
    }

    #[test]
    fn an_included_name_needs_one_matching_value_and_no_exclude_may_match() {
        let any = RegisterSelector::include("author", "");
        assert!(any.matches(&set(&[("author", "z")])));
        let either =
            RegisterSelector { include: set(&[("n", "1"), ("n", "2")]), exclude: set(&[("bad", "")]) };
        assert!(either.matches(&set(&[("n", "2")])));
        assert!(!either.matches(&set(&[("n", "3")])));
        assert!(!either.matches(&set(&[("n", "1"), ("bad", "x")])));
    }
}
