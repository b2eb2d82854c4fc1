//! A journal that discards what it is given, for the benches that measure a recorder alone.
//!
//! *Invariants.* Whatever is appended is committed at the head, unchecked. No system call is made.
//!
//! *Does not* read, or measure.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use recoverylog::completion::{Completer, Completion, completion};
use recoverylog::journal::{
    Append, Appended, Capabilities, Fragment, Head, Journal, JournalError, JournalReader, ReadRange,
    RegisterSet,
};
use recoverylog::{Deadline, JournalName, Offset};

/// A journal that knows its head and its registers, and nothing else.
#[derive(Debug)]
pub(crate) struct Discard {
    name: JournalName,
    head: Mutex<(Offset, RegisterSet)>,
    later: Option<Sender<(Append, Completer<Appended, JournalError>)>>,
}

impl Discard {
    pub(crate) fn at_once() -> Arc<Self> {
        let head = Mutex::default();
        Arc::new(Self { name: name(), head, later: None })
    }

    pub(crate) fn later() -> Arc<Self> {
        let (sender, receiver) = channel::<(Append, Completer<Appended, JournalError>)>();
        let head = Mutex::default();
        let journal = Arc::new(Self { name: name(), head, later: Some(sender) });
        let commits = Self { name: name(), head: Mutex::default(), later: None };
        std::thread::spawn(move || {
            for (append, completer) in receiver {
                completer.resolve(Ok(commits.commit(append)));
            }
        });
        journal
    }

    fn commit(&self, mut append: Append) -> Appended {
        let mut head = self.head.lock().unwrap();
        let begin = head.0;
        head.0 = begin.saturating_add(append.content_bytes());
        if !append.union.is_empty() {
            head.1 = std::mem::take(&mut append.union);
        }
        let appended = Appended::new(begin, head.0, head.1.clone());
        drop(append);
        appended
    }
}

pub(crate) fn name() -> JournalName {
    JournalName::new("bench/discard").unwrap()
}

impl Journal for Discard {
    fn name(&self) -> &JournalName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        match &self.later {
            None => Completion::resolved(Ok(self.commit(append))),
            Some(later) => {
                let (completer, pending) = completion();
                later.send((append, completer)).unwrap();
                pending
            }
        }
    }

    fn head(&self, _deadline: Deadline) -> Result<Head, JournalError> {
        let head = self.head.lock().unwrap();
        Ok(Head::new(head.0, head.1.clone()))
    }

    fn read(&self, _range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        Err(JournalError::NotAllowed { journal: name(), what: "nothing is kept".into() })
    }

    fn fragments(&self, _deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        Ok(Vec::new())
    }

    fn prune(&self, _fragments: &[Fragment], _deadline: Deadline) -> Result<(), JournalError> {
        Ok(())
    }
}
