//! Stored fragments, read whole before a play, so that their journal compares them with the sums in their names.
//!
//! *Invariants.* Every stored fragment with a sum that shares a byte with the plan is read from its first byte to its
//! last. The error is that of the first one that fails, in the order of the plan.
//!
//! *Does not* compute a sum: a journal does, where a fragment is read whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::JournalName;
use crate::journal::{Fragment, Journal, ReadRange, ReadStep};
use crate::player::plan::{Plan, hole};
use crate::player::{Counts, PROGRESS_BYTES, PlayOptions, Progress};
use crate::sync::Mutex;

/// Which bytes of stored fragments are compared with the sums in the fragments' names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Verify {
    /// Those of fragments that happen to be read whole. Of a fragment that is read in part only the chain of
    /// operations and the checksums of payloads vouch for what is read; a payload that Gazette's own recorder wrote
    /// has none.
    #[default]
    AsRead,
    /// Those of every fragment that the plan touches, before anything is played. They are read once more.
    Full,
}

/// Reads every fragment that `plan` touches.
///
/// # Errors
/// What the journals say: `Corrupt` for a fragment that is not what its name says.
pub(super) fn check_fragments(
    plan: &Plan,
    journals: &BTreeMap<JournalName, Arc<dyn Journal>>,
    options: &PlayOptions,
) -> Result<()> {
    let fragments = touched(plan, journals, options)?;
    let planned_bytes = fragments.iter().map(|(_, fragment)| bytes_of(fragment)).sum();
    let check = Check {
        fragments,
        options,
        planned_bytes,
        done_bytes: AtomicU64::new(0),
        next: AtomicUsize::new(0),
        failed: Mutex::new(None),
    };
    let helpers = options.parallelism.min(check.fragments.len()).saturating_sub(1);
    std::thread::scope(|scope| {
        for index in 0..helpers {
            let builder = std::thread::Builder::new().name(format!("recoverylog-verify-{index}"));
            // With fewer threads than were asked for it takes longer.
            drop(builder.spawn_scoped(scope, || check.run()));
        }
        check.run();
    });
    let failed = check.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// Lists the fragments that share a byte with the plan, each once, in the order of the plan.
fn touched<'a>(
    plan: &Plan,
    journals: &'a BTreeMap<JournalName, Arc<dyn Journal>>,
    options: &PlayOptions,
) -> Result<Vec<(&'a dyn Journal, Fragment)>> {
    let (mut known, mut fragments) = (BTreeSet::new(), Vec::new());
    for range in &plan.ranges {
        let Some(journal) = journals.get(&range.log) else { continue };
        for fragment in journal.fragments(Deadline::after(options.step_deadline))? {
            let touches = fragment.begin < range.end && fragment.end > range.begin;
            let key = (&range.log, fragment.begin, fragment.end);
            if touches && fragment.sum.is_some() && known.insert(key) {
                fragments.push((&**journal, fragment));
            }
        }
    }
    Ok(fragments)
}

fn bytes_of(fragment: &Fragment) -> u64 {
    fragment.end.bytes_since(fragment.begin)
}

/// A check that several threads work on.
struct Check<'a> {
    fragments: Vec<(&'a dyn Journal, Fragment)>,
    options: &'a PlayOptions,
    planned_bytes: u64,
    done_bytes: AtomicU64,
    /// The first fragment that no thread has taken.
    next: AtomicUsize,
    /// The first fragment that failed, and why.
    failed: Mutex<Option<(usize, Error)>>,
}

impl Check<'_> {
    /// Checks one fragment after another until none is left, or one has failed.
    fn run(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((journal, fragment)) = self.fragments.get(index) else { return };
            if let Err(error) = self.read(*journal, fragment) {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failed = Some((index, error));
                }
                // Those before it were taken already, and are finished.
                self.next.fetch_add(self.fragments.len(), Ordering::Relaxed);
                return;
            }
        }
    }

    fn read(&self, journal: &dyn Journal, fragment: &Fragment) -> Result<()> {
        let mut reader = journal.read(ReadRange::bounded(fragment.begin, fragment.end))?;
        loop {
            match reader.next(Deadline::after(self.options.step_deadline))? {
                ReadStep::Chunk(chunk) => self.report(chunk.len()),
                ReadStep::Interrupted => {}
                ReadStep::End => return Ok(()),
                ReadStep::Jump { from, to } => return Err(hole(journal.name(), from, to)),
                ReadStep::AtHead { head } => {
                    let what = "bytes of a stored fragment did not come in time";
                    return Err(Error::new(ErrorKind::Unavailable, what)
                        .in_log(journal.name())
                        .at(reader.offset())
                        .expected(
                            format_args!("bytes up to {}", fragment.end),
                            format_args!("a head of {head}"),
                        ));
                }
            }
        }
    }

    fn report(&self, bytes: u64) {
        let before = self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
        let done_bytes = before + bytes;
        if before / PROGRESS_BYTES != done_bytes / PROGRESS_BYTES
            && let Some(progress) = &self.options.progress
        {
            let planned_bytes = self.planned_bytes;
            progress(&Progress { verifying: true, planned_bytes, done_bytes, counts: Counts::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::ids::Offset;
    use crate::journal::{
        Append, FileJournalOptions, FileJournals, FragmentJournals, Journals, MemoryJournals,
    };
    use crate::player::{PlanRange, ProgressCallback};
    use crate::vfs::{FileKind, FileSystem, MemoryFs, OpenMode};

    fn at(offset: u64) -> Offset {
        Offset::new(offset).unwrap()
    }

    fn name() -> JournalName {
        JournalName::new("acme/orders").unwrap()
    }

    /// Returns a disk with a file journal of several sealed fragments, and the files they lie in.
    fn sealed() -> (Arc<dyn FileSystem>, Vec<PathBuf>) {
        let fs: Arc<dyn FileSystem> = Arc::new(MemoryFs::new());
        let mut options = FileJournalOptions::default();
        (options.fragment_bytes, options.inline) = (8192, true);
        let journals = FileJournals::open_on(Arc::clone(&fs), "/journals", options).unwrap();
        let journal = journals.open(&name()).unwrap();
        for piece in 0..6 {
            let soon = Deadline::after(Duration::from_secs(10));
            journal.append(Append::new(Bytes::from(vec![piece; 6000])), soon).unwrap();
        }
        drop(journal);
        let folder = Path::new("/journals/acme/orders");
        let files = fs.read_dir(folder).unwrap();
        let files = files.iter().filter(|entry| entry.kind == FileKind::File);
        let files: Vec<_> = files.map(|entry| folder.join(&entry.name)).collect();
        assert!(files.len() > 2, "{files:?}");
        (fs, files)
    }

    fn check(journals: &dyn Journals, begin: u64, end: u64) -> Result<()> {
        let range = PlanRange { log: name(), begin: at(begin), end: at(end) };
        let plan = Plan { ranges: vec![range], hinted_files: 0, hinted_segments: 0 };
        let opened = BTreeMap::from([(name(), journals.open(&name()).unwrap())]);
        for parallelism in [1, 4] {
            check_fragments(&plan, &opened, &PlayOptions { parallelism, ..PlayOptions::default() })?;
        }
        Ok(())
    }

    #[test]
    fn progress_is_told_once_for_each_mebibyte_that_was_checked() {
        const LEN: u64 = 700 << 10;
        let journal = MemoryJournals::new().fragment_bytes(LEN).open(&name()).unwrap();
        for _ in 0..6 {
            let soon = Deadline::after(Duration::from_secs(10));
            journal.append(Append::new(vec![7; LEN as usize]), soon).unwrap();
        }
        let range = PlanRange { log: name(), begin: at(0), end: at(6 * LEN) };
        let plan = Plan { ranges: vec![range], hinted_files: 0, hinted_segments: 0 };
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&told);
        let progress: ProgressCallback = Arc::new(move |progress| notes.lock().unwrap().push(*progress));
        let options = PlayOptions { parallelism: 1, progress: Some(progress), ..PlayOptions::default() };
        check_fragments(&plan, &BTreeMap::from([(name(), journal)]), &options).unwrap();
        // The last fragment is still open, and has no sum.
        let step = |fragments| Progress {
            verifying: true,
            planned_bytes: 5 * LEN,
            done_bytes: fragments * LEN,
            counts: Counts::default(),
        };
        assert_eq!(*told.lock().unwrap(), [2, 3, 5].map(step));
    }

    #[test]
    fn a_fragment_of_which_a_plan_needs_one_byte_is_checked_whole_and_no_other_is() {
        let (fs, files) = sealed();
        let file_journals = FileJournals::read_only_on(Arc::clone(&fs), "/journals").unwrap();
        let fragments = FragmentJournals::open(Arc::clone(&fs), "/journals").unwrap();
        let both: [&dyn Journals; 2] = [&file_journals, &fragments];
        let first_end =
            fragments.journal(&name()).unwrap().fragments(Deadline::passed()).unwrap()[0].end.get();
        for journals in both {
            check(journals, 0, 20_000).unwrap();
        }
        let file = fs.open(&files[0], OpenMode::ReadWrite).unwrap();
        file.write_all_at(b"?", first_end / 2).unwrap();
        for journals in both {
            for byte in [0, first_end - 1] {
                let error = check(journals, byte, byte + 1).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                assert_eq!(error.to_string().matches(files[0].to_str().unwrap()).count(), 1, "{error}");
                let sums = [error.expected_value(), error.actual_value()].map(|sum| sum.unwrap().len());
                assert_eq!(sums, [40, 40], "{error}");
            }
            check(journals, first_end, first_end + 1).unwrap();
        }
    }
}
