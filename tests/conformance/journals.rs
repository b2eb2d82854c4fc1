//! Journals that break a promise.

use std::sync::Arc;

use bytes::Bytes;
use recoverylog::completion::Completion;
use recoverylog::journal::conformance::{Place, run};
use recoverylog::journal::{
    Append, Appended, Capabilities, Chunk, Fragment, Head, Interrupter, Journal, JournalError, JournalReader,
    Journals, MemoryJournals, ReadRange, ReadStep, RegisterSet,
};
use recoverylog::{Deadline, JournalName, Offset};

use super::assert_names;

#[derive(Clone, Copy, Debug)]
enum Flaw {
    None,
    IgnoresAt,
    IgnoresChecks,
    ForgetsRegisters,
    CommitsInPieces,
    CommitsRefusedContent,
    TellsAnOldHead,
    HidesJumps,
    IgnoresInterrupts,
    ChangesBytes,
    PrunesNothing,
    CannotPruneAndSaysNothing,
}

#[derive(Debug)]
struct Broken(Arc<dyn Journals>, Flaw);

impl Journals for Broken {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        Ok(Arc::new(BrokenJournal(self.0.open(name)?, self.1)))
    }

    fn list(&self) -> recoverylog::Result<Vec<JournalName>> {
        self.0.list()
    }
}

#[derive(Debug)]
struct BrokenJournal(Arc<dyn Journal>, Flaw);

impl Journal for BrokenJournal {
    fn name(&self) -> &JournalName {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        let mut can = self.0.capabilities();
        can.prune = !matches!(self.1, Flaw::CannotPruneAndSaysNothing);
        can
    }

    fn submit(&self, mut append: Append) -> Completion<Appended, JournalError> {
        match self.1 {
            Flaw::IgnoresAt => append.at = None,
            Flaw::IgnoresChecks => append.check = None,
            Flaw::ForgetsRegisters => append.union = RegisterSet::EMPTY,
            Flaw::CommitsInPieces if append.content.len() > 1 => {
                let pieces = std::mem::take(&mut append.content);
                let at = append.at.take();
                let mut last = None;
                for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                    let mut part = Append::new(piece);
                    part.at = at.filter(|_| last.is_none());
                    last = Some(self.0.submit(part));
                }
                return last.unwrap_or_else(|| self.0.submit(append));
            }
            Flaw::CommitsRefusedContent => {
                let content = append.content.concat();
                let mut result =
                    self.0.submit(append).wait(Deadline::passed()).expect("memory answers at once");
                if matches!(result, Err(JournalError::WrongOffset { .. })) && !content.is_empty() {
                    drop(self.0.submit(Append::new(Bytes::from(content))));
                } else if let Ok(appended) = &mut result {
                    appended.registers = self.0.head(Deadline::passed()).unwrap().registers;
                }
                return Completion::resolved(result);
            }
            _ => {}
        }
        self.0.submit(append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        let head = self.0.head(deadline)?;
        let offset = match self.1 {
            Flaw::TellsAnOldHead => Offset::new(head.offset.get().saturating_sub(1)).unwrap(),
            _ => head.offset,
        };
        Ok(Head::new(offset, head.registers))
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(BrokenReader(self.0.read(range)?, self.1)))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        self.0.fragments(deadline)
    }

    fn prune(&self, fragments: &[Fragment], deadline: Deadline) -> Result<(), JournalError> {
        match self.1 {
            Flaw::PrunesNothing | Flaw::CannotPruneAndSaysNothing => Ok(()),
            _ => self.0.prune(fragments, deadline),
        }
    }
}

#[derive(Debug)]
struct BrokenReader(Box<dyn JournalReader>, Flaw);

impl JournalReader for BrokenReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        match (self.0.next(deadline)?, self.1) {
            (ReadStep::Jump { .. }, Flaw::HidesJumps) => self.next(deadline),
            (ReadStep::Interrupted, Flaw::IgnoresInterrupts) => self.next(Deadline::passed()),
            (ReadStep::Chunk(chunk), Flaw::ChangesBytes) => {
                let mut bytes = vec![0; usize::try_from(chunk.len()).unwrap()];
                chunk.read_exact_at(&mut bytes, 0).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                Ok(ReadStep::Chunk(Chunk::Bytes { offset: chunk.offset(), bytes: bytes.into() }))
            }
            (step, _) => Ok(step),
        }
    }

    fn offset(&self) -> Offset {
        self.0.offset()
    }

    fn interrupter(&self) -> Interrupter {
        self.0.interrupter()
    }
}

fn place(flaw: Flaw) -> Place {
    Place::empty(Arc::new(Broken(Arc::new(MemoryJournals::new().fragment_bytes(4096)), flaw)), 4096)
}

#[test]
fn a_broken_journal_fails_by_the_promise_that_it_breaks() {
    for (flaw, expected) in [
        (
            Flaw::IgnoresAt,
            &["an_append_at_another_offset_commits_nothing", "one_of_racing_appends_wins_each_head"][..],
        ),
        (Flaw::IgnoresChecks, &["a_new_author_fences_the_old_one"]),
        (Flaw::ForgetsRegisters, &["a_new_author_fences_the_old_one"]),
        (Flaw::CommitsInPieces, &["content_in_pieces_commits_as_one"]),
        (Flaw::CommitsRefusedContent, &["an_append_at_another_offset_commits_nothing"]),
        (Flaw::TellsAnOldHead, &["appends_land_where_they_say"]),
        (Flaw::HidesJumps, &["prune_removes_whole_fragments_and_readers_jump"]),
        (Flaw::IgnoresInterrupts, &["an_interrupt_ends_a_wait_under_way"]),
        (Flaw::ChangesBytes, &["a_reader_gives_exactly_its_range"]),
        (Flaw::PrunesNothing, &["prune_removes_whole_fragments_and_readers_jump"]),
        (Flaw::CannotPruneAndSaysNothing, &["prune_refuses_what_is_not_stored_and_the_head"]),
    ] {
        assert_names(&flaw, run(&|| place(flaw)), expected);
    }
}

#[test]
fn a_journal_that_is_empty_when_it_is_opened_again_fails_by_name() {
    let make = || place(Flaw::None).reopened_by(|| Arc::new(MemoryJournals::new()));
    assert_names(&"Forgets", run(&make), &["a_reopened_place_keeps_content_and_registers"]);
    run(&|| place(Flaw::None)).expect("the wrapper itself breaks nothing");
}
