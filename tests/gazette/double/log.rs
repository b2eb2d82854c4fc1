//! A journal of the double: its content, its registers and its fragments.
//!
//! *Invariants.* The first fragment rolls at the next append or barrier, however short it is; each later one at the first
//! after it is as long as the journal's description says. What has rolled is stored at once, where the journal has a
//! store.
//!
//! *Does not* forget content: what is lost of it is no fragment any more.

use std::sync::Arc;

use recoverylog::{Clock, SystemClock};
use sha1::{Digest, Sha1};

use super::labels;
use super::store::Store;
use crate::protocol::{
    AppendRequest, CompressionCodec, Fragment, JournalSpec, Label, LabelSet, Sha1Sum, Status,
};

/// A journal may be appended to unless it has this flag.
const READ_ONLY: u32 = 1;
/// How old a fragment is to be, in seconds, for readers to be taken to it across a hole.
const OLD_SECS: i64 = 6 * 3600;

pub(crate) struct Log {
    pub(crate) spec: JournalSpec,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) content: Vec<u8>,
    pub(crate) registers: LabelSet,
    /// What has rolled; sorted.
    pub(crate) fragments: Vec<Fragment>,
    /// Where the fragment begins that is written to.
    begin: i64,
    /// Which broker takes appends; nobody while one is sought.
    pub(crate) primary: Option<usize>,
    pub(crate) is_suspended: bool,
    /// The store holds more than the brokers know of.
    pub(crate) is_behind: bool,
    pub(crate) store_health_error: String,
    store: Store,
    /// Appends take their turns.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Log {
    pub(super) fn new(spec: JournalSpec, revision: i64, primary: usize, store: Store) -> Self {
        Self {
            spec,
            created: revision,
            modified: revision,
            content: Vec::new(),
            registers: LabelSet::default(),
            fragments: Vec::new(),
            begin: 0,
            primary: Some(primary),
            is_suspended: false,
            is_behind: false,
            store_health_error: String::new(),
            store,
            turn: Arc::default(),
        }
    }

    pub(crate) fn head(&self) -> i64 {
        i64::try_from(self.content.len()).unwrap()
    }

    /// Returns the labels that it is listed by.
    pub(super) fn listed_by(&self) -> LabelSet {
        let mut labels = self.spec.labels.clone().unwrap_or_default();
        let name = Label { name: "name".into(), value: self.spec.name.clone(), prefix: false };
        labels.labels.push(name);
        labels
    }

    /// Returns the status that an append is refused with.
    pub(super) fn refuses(&self, append: &AppendRequest) -> Option<Status> {
        if !self.store_health_error.is_empty() {
            return Some(Status::FragmentStoreUnhealthy);
        }
        if !labels::permits(append.check_registers.as_ref(), &self.registers) {
            return Some(Status::RegisterMismatch);
        }
        if append.offset != 0 && append.offset != self.head() {
            return Some(Status::WrongAppendOffset);
        }
        self.is_behind.then_some(Status::IndexHasGreaterOffset)
    }

    /// Tells whether content is refused that an append brings.
    pub(super) const fn is_read_only(&self) -> bool {
        self.spec.flags & READ_ONLY != 0
    }

    /// Commits content; returns its place.
    pub(super) fn commit(&mut self, append: &AppendRequest, content: &[u8]) -> Fragment {
        self.roll();
        let begin = self.head();
        self.content.extend_from_slice(content);
        if !content.is_empty() {
            let subtracted =
                labels::subtract(&self.registers, &append.subtract_registers.clone().unwrap_or_default());
            self.registers = labels::union(&subtracted, &append.union_registers.clone().unwrap_or_default());
        }
        self.fragment(begin, self.head())
    }

    /// Ends the fragment that is written to, where it is to end.
    pub(crate) fn roll(&mut self) {
        let len = self.head() - self.begin;
        let is_first = self.begin == 0;
        let long = self.spec.fragment.as_ref().map_or(i64::MAX, |fragment| fragment.length);
        if len == 0 || !is_first && len < long {
            return;
        }
        let mut fragment = self.fragment(self.begin, self.head());
        let stores = self.spec.fragment.iter().flat_map(|fragment| &fragment.stores);
        if let Some(store) = stores.clone().next() {
            fragment.backing_store.clone_from(store);
            fragment.mod_time = SystemClock.unix_nanos() / 1_000_000_000;
            self.store.put(&fragment, self.bytes(&fragment));
        }
        self.begin = fragment.end;
        self.fragments.push(fragment);
    }

    pub(crate) fn bytes(&self, fragment: &Fragment) -> &[u8] {
        let at = |offset: i64| usize::try_from(offset).unwrap();
        &self.content[at(fragment.begin)..at(fragment.end)]
    }

    fn fragment(&self, begin: i64, end: i64) -> Fragment {
        let codec = self.spec.fragment.as_ref().map_or(CompressionCodec::None, |fragment| {
            if fragment.compression_codec() == CompressionCodec::Invalid {
                CompressionCodec::None
            } else {
                fragment.compression_codec()
            }
        });
        let mut fragment = Fragment {
            journal: self.spec.name.clone(),
            begin,
            end,
            compression_codec: codec.into(),
            ..Fragment::default()
        };
        fragment.sum = Some(sum(self.bytes(&fragment)));
        fragment
    }

    /// Returns every fragment, with the one that is written to.
    pub(super) fn all_fragments(&self) -> Vec<Fragment> {
        let mut all = self.fragments.clone();
        if self.begin < self.head() {
            all.push(self.fragment(self.begin, self.head()));
        }
        all
    }

    /// Returns the fragment that a read at `offset` is given, and from where; `None` where it has to wait.
    pub(super) fn found(&self, offset: i64) -> Option<(Fragment, i64)> {
        let all = self.all_fragments();
        if let Some(there) = all.iter().find(|there| there.begin <= offset && offset < there.end) {
            return Some((there.clone(), offset));
        }
        let is_first = all.first().is_some_and(|first| offset < first.begin);
        let next = all.into_iter().find(|next| next.begin > offset && !next.backing_store.is_empty())?;
        let now = SystemClock.unix_nanos() / 1_000_000_000;
        let begin = next.begin;
        (is_first || next.mod_time < now - OLD_SECS).then_some((next, begin))
    }

    /// Returns where a stored fragment can be had; empty for one that is not.
    pub(super) fn url(fragment: &Fragment) -> String {
        if fragment.backing_store.is_empty() {
            return String::new();
        }
        format!("{}{}", fragment.backing_store, super::store::path(fragment))
    }

    /// Loses a fragment that has rolled; readers are taken across the hole at once where `is_old`.
    pub(crate) fn lose(&mut self, index: usize, is_old: bool) -> Fragment {
        let lost = self.fragments.remove(index);
        if is_old {
            for fragment in &mut self.fragments {
                fragment.mod_time -= 2 * OLD_SECS;
            }
        }
        lost
    }

    /// Lists a fragment again that was lost.
    pub(crate) fn find(&mut self, fragment: Fragment) {
        let at = self.fragments.partition_point(|other| other.begin < fragment.begin);
        self.fragments.insert(at, fragment);
    }
}

/// Returns the digest of content as brokers send it.
pub(super) fn sum(content: &[u8]) -> Sha1Sum {
    let digest: [u8; 20] = Sha1::digest(content).into();
    Sha1Sum {
        part1: u64::from_be_bytes(digest[..8].try_into().unwrap()),
        part2: u64::from_be_bytes(digest[8..16].try_into().unwrap()),
        part3: u32::from_be_bytes(digest[16..].try_into().unwrap()),
    }
}
