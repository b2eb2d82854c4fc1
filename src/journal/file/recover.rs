//! Recovery: finding out, from the files alone, where a journal ends after another boot of the machine.
//!
//! *Invariants.* A survey changes nothing. What anything vouches for (a later commit, a later file, the witness in
//! `head`, a sealed fragment) is never cut: if it is not there, the journal is corrupt. Recovery can be cut off at
//! any point and started again.
//!
//! *Does not* run while anybody uses the journal: the caller holds its lock, and `head` belongs to no boot of now.

use std::sync::Arc;

use super::head::SharedHead;
use super::layout::{FILE_ID_MAX, Geometry, HeadWord, Header};
use super::open_file::{Mark, OpenFile, Step};
use super::place::{Place, Sealed, StateName};
use super::seal::{self, How, Link};
use crate::ids::Offset;
use crate::journal::{JournalError, RegisterSet};
use crate::vfs::OpenMode;

/// What recovery cut off the end of a journal: a commit that was never acknowledged, or of which nothing else is
/// left that would show that it was.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CutTail {
    /// Where the journal ends now.
    pub offset: Offset,
    /// The check that failed behind it.
    pub what: String,
}

/// What the files of a journal say.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    /// The files in use that are not sealed, in order of their offsets; the last one ends at the head.
    pub(super) chain: Vec<Link>,
    pub(super) head: Offset,
    pub(super) registers: RegisterSet,
    pub(super) cut: Option<CutTail>,
    /// The largest file id that was ever seen.
    last_id: u64,
}

/// How far the records and the content of one file are valid.
struct Scan {
    mark: Mark,
    broken: Option<String>,
}

/// Finds out where the journal ends. `witness` is what is left of the head of an earlier boot; `sealed` are the
/// fragments.
pub(super) fn survey(
    place: &Place,
    witness: Option<HeadWord>,
    sealed: &[Sealed],
    mode: OpenMode,
) -> Result<Survey, JournalError> {
    let mut files = Vec::new();
    for id in place.open_ids()? {
        files.extend(OpenFile::open(place, id, mode)?.map(Arc::new));
    }
    let last_id = files.last().map_or(0, |file| file.header.id);
    // A file goes only once a newer one is there.
    if let Some(word) = witness.filter(|word| word.file > last_id) {
        return Err(place.gone(word.file));
    }
    let mut survey =
        Survey { chain: Vec::new(), head: Offset::ZERO, registers: RegisterSet::EMPTY, cut: None, last_id };
    if let Some((file, scan)) = last_in_use(place, witness, &files, &mut survey.cut)? {
        survey.chain = checked_predecessors(place, &file.header, mode)?;
        let mut link = Link { len: scan.mark.len, file };
        let mut mark = scan.mark;
        if let Some(twin) =
            sealed.iter().find(|twin| twin.begin == link.file.header.begin && twin.end < link.end())
        {
            // It was sealed up to there already: what follows was written after it went out of use.
            link.len = twin.end.bytes_since(twin.begin);
            mark = link.file.start();
            link.file.advance(place, &mut mark, link.len, true)?;
        } else if let Some(what) = scan.broken {
            survey.cut = Some(CutTail { offset: link.end(), what });
        }
        survey.head = link.end();
        survey.registers = mark.registers;
        survey.chain.push(link);
        check_witness(place, witness, &survey)?;
    } else if let Some(newest) = files.iter().max_by_key(|file| (file.header.begin, file.header.id)) {
        // It vouches for files whose every commit is damaged.
        checked_predecessors(place, &newest.header, mode)?;
        survey.head = newest.header.begin;
        survey.registers = newest.header.registers.clone();
    } else {
        survey.head = sealed.iter().map(|fragment| fragment.end).max().unwrap_or_default();
    }
    if let Some(later) = files.iter().find(|file| file.header.begin > survey.head) {
        let what = "it begins past the last valid commit";
        return Err(later.corrupt(place, 0, what, later.header.begin, survey.head));
    }
    check_sealed(place, &survey, sealed)?;
    Ok(survey)
}

/// Returns the files before `newest` that are not sealed, having checked each of their commits.
fn checked_predecessors(place: &Place, newest: &Header, mode: OpenMode) -> Result<Vec<Link>, JournalError> {
    let chain = seal::predecessors(place, newest, mode)?;
    for link in &chain {
        link.file.advance(place, &mut link.file.start(), link.len, true)?;
    }
    Ok(chain)
}

/// Returns the last file that was ever in use.
fn last_in_use(
    place: &Place,
    witness: Option<HeadWord>,
    files: &[Arc<OpenFile>],
    cut: &mut Option<CutTail>,
) -> Result<Option<(Arc<OpenFile>, Scan)>, JournalError> {
    for file in files.iter().rev() {
        let scan = scan(place, file)?;
        if scan.mark.len > 0 || witness.is_some_and(|word| word.file == file.header.id) {
            return Ok(Some((Arc::clone(file), scan)));
        }
        if let Some(what) = scan.broken {
            *cut = Some(CutTail { offset: file.header.begin, what });
        }
    }
    Ok(None)
}

/// Walks a file to the end of what is valid.
///
/// # Errors
/// `Corrupt` where a later commit follows.
fn scan(place: &Place, file: &OpenFile) -> Result<Scan, JournalError> {
    let mut mark = file.start();
    let mut walk = file.walk();
    let broken = loop {
        match walk.step(&mark).map_err(|error| file.read_failed(place, error))? {
            Step::End(rule) => break rule.map(String::from),
            Step::Record(record, next) => match file.check_content(place, mark.len, &record) {
                Ok(()) => mark = next,
                Err(error @ JournalError::Corrupt { .. }) => break Some(error.to_string()),
                Err(error) => return Err(error),
            },
        }
    };
    if let Some(end) = file.voucher_after(place, &mark)? {
        let what = broken.as_deref().unwrap_or("a commit record is missing");
        return Err(file.corrupt(
            place,
            mark.len,
            what,
            format!("commits up to {end}"),
            file.offset(mark.len),
        ));
    }
    Ok(Scan { mark, broken })
}

/// Checks that everything is there that was once below the head.
fn check_witness(place: &Place, witness: Option<HeadWord>, survey: &Survey) -> Result<(), JournalError> {
    let Some(word) = witness else { return Ok(()) };
    for link in &survey.chain {
        if link.file.header.id == word.file && link.len < word.len {
            let what = "the head was once further on";
            return Err(link.file.corrupt(place, link.len, what, link.file.offset(word.len), link.end()));
        }
    }
    Ok(())
}

/// Checks that no sealed fragment reaches past what the open files begin with, other than those of a sealing that
/// was cut off.
fn check_sealed(place: &Place, survey: &Survey, sealed: &[Sealed]) -> Result<(), JournalError> {
    let open_begin = survey.chain.first().map_or(survey.head, |link| link.file.header.begin);
    for fragment in sealed.iter().filter(|fragment| fragment.end > open_begin) {
        let twin = survey.chain.iter().find(|link| {
            link.file.header.begin == fragment.begin && link.end() == fragment.end && link.len > 0
        });
        let is_ours = match twin {
            Some(link) => seal::checked_sum(place, link)? == fragment.sum,
            None => false,
        };
        if !is_ours {
            let what = format!("the fragment {fragment} was stored past the head by somebody else");
            return Err(place.diverged(survey.head, what));
        }
    }
    Ok(())
}

/// Brings a journal into this boot: a new open file at the head, everything before it sealed.
pub(super) fn recover(
    place: &Place,
    head: &SharedHead,
    boot: [u8; 16],
    content_bytes: u64,
    list_sealed: impl Fn() -> Result<Vec<Sealed>, JournalError>,
) -> Result<Option<CutTail>, JournalError> {
    seal::finish_leftovers(place)?;
    for name in place.state_names()? {
        if let StateName::Copy(name) = name {
            place.remove(&place.state.join(name))?;
        }
    }
    let survey = survey(place, head.witness(), &list_sealed()?, OpenMode::ReadWrite)?;
    let header = Header {
        id: survey.last_id + 1,
        previous: survey.chain.last().map_or(0, |link| link.file.header.id),
        begin: survey.head,
        geometry: Geometry::for_content(content_bytes),
        fruitless: 0,
        registers: survey.registers,
    };
    let file = create(place, header)?;
    head.start(boot, HeadWord::new(file.header.id, 0));
    let sealed = seal::seal_before(place, &file.header, &How::Any);
    file.file.unlock().map_err(|error| place.io("giving a lock back", error))?;
    sealed?;
    // Whatever is left was judged above: it never came into use, or its only commit was cut.
    for id in place.open_ids()?.into_iter().filter(|&id| id < file.header.id) {
        place.remove(&place.open_path(id))?;
    }
    place.sync_state()?;
    Ok(survey.cut)
}

/// Makes the open file that `header` describes, under its id or the next free one.
fn create(place: &Place, mut header: Header) -> Result<OpenFile, JournalError> {
    loop {
        if let Some(file) = create_as(place, header.clone())? {
            return Ok(file);
        }
        header.id += 1;
    }
}

/// Makes the open file that `header` describes; `None` as [`OpenFile::create`].
pub(super) fn create_as(place: &Place, header: Header) -> Result<Option<OpenFile>, JournalError> {
    if header.id > FILE_ID_MAX {
        let what = "every file id of this boot is used up; they start over with the next";
        return Err(place.not_allowed(what));
    }
    OpenFile::create(place, header)
}
