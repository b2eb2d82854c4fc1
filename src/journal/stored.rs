//! What is stored of a journal, as ranges without holes.
//!
//! *Invariants.* Ranges stand in order, and do not touch.
//!
//! *Does not* know what is open or sealed.

use super::Fragment;
use crate::ids::Offset;

/// The ranges of a journal that its fragments hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stored(Vec<(Offset, Offset)>);

impl Stored {
    /// Joins fragments, which are sorted by begin and may overlap.
    pub(crate) fn new<'a>(fragments: impl IntoIterator<Item = &'a Fragment>) -> Self {
        let mut ranges: Vec<(Offset, Offset)> = Vec::new();
        for fragment in fragments {
            match ranges.last_mut() {
                Some((_, end)) if fragment.begin <= *end => *end = fragment.end.max(*end),
                _ => ranges.push((fragment.begin, fragment.end)),
            }
        }
        Self(ranges)
    }

    /// Returns the ranges.
    pub(crate) fn ranges(&self) -> &[(Offset, Offset)] {
        &self.0
    }

    /// Returns the first bytes of `[begin, end)` that are missing.
    pub(crate) fn hole_in(&self, begin: Offset, end: Offset) -> Option<(Offset, Offset)> {
        let past = self.0.partition_point(|(_, to)| *to <= begin);
        let mut rest = self.0.get(past..).unwrap_or_default().iter();
        let missing = match rest.next() {
            Some((from, to)) if *from <= begin => (*to, rest.next().map_or(end, |(from, _)| *from)),
            Some((from, _)) => (begin, *from),
            None => (begin, end),
        };
        (missing.0 < end).then(|| (missing.0, missing.1.min(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_that_are_missing_of_a_range_are_told() {
        let at = |offset| Offset::new(offset).unwrap();
        let fragments = [(10, 20), (20, 30), (25, 28), (40, 60), (45, 50), (60, 61)];
        let fragments = fragments.map(|(begin, end)| Fragment::open(at(begin), at(end)));
        let stored = Stored::new(&fragments);
        assert_eq!(stored.ranges(), [(at(10), at(30)), (at(40), at(61))]);
        let is_stored = |offset: u64| (10..30).contains(&offset) || (40..61).contains(&offset);
        for begin in 0..70 {
            for end in begin..70 {
                let first = (begin..end).find(|offset| !is_stored(*offset));
                let hole = first.map(|first| {
                    let until = (first..end).find(|offset| is_stored(*offset)).unwrap_or(end);
                    (at(first), at(until))
                });
                assert_eq!(stored.hole_in(at(begin), at(end)), hole, "[{begin}, {end})");
            }
        }
        assert_eq!(Stored::default().hole_in(at(1), at(2)), Some((at(1), at(2))));
    }
}
