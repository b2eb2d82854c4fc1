//! Appends: one call of a broker for each, one after the other.
//!
//! *Invariants.* The appends of a journal are sent in the order in which they were submitted, each after the one before it
//! was answered; those of other journals do not wait for it. All bytes are at hand before a call begins. A call is made
//! again only where it cannot have committed, or had nothing to commit.
//!
//! *Does not* batch, and does not look whether an append of unknown fate has committed: the recorder does, who can tell its
//! own bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};

use tonic::codegen::tokio_stream::Stream;

use super::cluster::{Cluster, Whom};
use super::proto::{self, AppendRequest, AppendResponse, Status};
use super::retry::{final_error, is_elsewhere, is_passing, lie, refused, told};
use super::token::May;
use crate::clock::Deadline;
use crate::completion::{Completer, Completion, completion};
use crate::ids::{JournalName, Offset};
use crate::journal::{Append, Appended, JournalError};
use crate::remote::Backoff;
use crate::sync::Mutex;

/// Content of one message: large enough to be cheap, small enough that a broker's window of 64 KiB per second holds it.
const CHUNK_BYTES: usize = 64 << 10;

type Answer = Result<Appended, JournalError>;

/// The appends of one journal.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Append, Completer<Appended, JournalError>)>,
    /// Somebody is sending them.
    is_running: bool,
}

impl Queue {
    /// Adds an append; it is sent after those before it.
    pub(super) fn submit(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        journal: &JournalName,
        append: Append,
    ) -> Completion<Appended, JournalError> {
        let (completer, completion) = completion();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push_back((append, completer));
        if !state.is_running {
            state.is_running = true;
            drop(state);
            let (queue, journal) = (Arc::clone(self), journal.clone());
            let sending = Arc::clone(cluster);
            drop(cluster.spawn(async move { queue.send(&sending, &journal).await }));
        }
        completion
    }

    async fn send(&self, cluster: &Cluster, journal: &JournalName) {
        loop {
            let next = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let next = state.waiting.pop_front();
                state.is_running = next.is_some();
                next
            };
            let Some((append, completer)) = next else { return };
            let deadline = Deadline::after(cluster.options.append_max);
            completer.resolve(send(cluster, journal, append, deadline).await);
        }
    }
}

/// Sends one append until it is answered.
pub(super) async fn send(
    cluster: &Cluster,
    journal: &JournalName,
    append: Append,
    deadline: Deadline,
) -> Answer {
    if append.at == Some(Offset::ZERO) {
        let what = "a broker cannot be told to append at offset 0: there 0 means any offset";
        return Err(JournalError::Invalid { journal: journal.clone(), what: what.into() });
    }
    let is_empty = append.content_bytes() == 0;
    if is_empty && !(append.union.is_empty() && append.subtract.is_empty()) {
        let what = "an append without content cannot change registers";
        return Err(JournalError::Invalid { journal: journal.clone(), what: what.into() });
    }
    let mut backoff = Backoff::new(deadline);
    loop {
        let what = match attempt(cluster, journal, &append, deadline).await {
            Tried::Answer(answer) => return answer,
            Tried::Again { what, may_have_committed } if may_have_committed && !is_empty => {
                return Err(JournalError::Unknown { journal: journal.clone(), at: append.at, what });
            }
            Tried::Again { what, .. } => {
                cluster.forget(Some(journal));
                what
            }
            Tried::Elsewhere { what } => what,
        };
        if !backoff.wait().await {
            return Err(JournalError::Unavailable { journal: journal.clone(), what });
        }
    }
}

enum Tried {
    Answer(Answer),
    Again {
        what: String,
        may_have_committed: bool,
    },
    /// Another broker is named, which is to be asked.
    Elsewhere {
        what: String,
    },
}

async fn attempt(cluster: &Cluster, journal: &JournalName, append: &Append, deadline: Deadline) -> Tried {
    let again = |what: String| Tried::Again { what, may_have_committed: false };
    let mut client = match cluster.client(Some(journal), Whom::Primary) {
        Ok(client) => client,
        Err(what) => return again(what),
    };
    let asked = Arc::new(AtomicBool::new(false));
    let messages = Messages { messages: messages(journal, append), asked: Arc::clone(&asked) };
    let request = match cluster.request(messages, May::Append) {
        Ok(request) => request,
        Err(what) => return again(what),
    };
    let answered = tokio::time::timeout(deadline.remaining(), client.append(request)).await;
    let may_have_committed = asked.load(Ordering::Acquire);
    match answered {
        Err(_) => {
            let what = "the broker did not answer before the deadline".into();
            Tried::Again { what, may_have_committed }
        }
        Ok(Err(status)) => match final_error(journal, &status) {
            Some(error) => Tried::Answer(Err(error)),
            None => Tried::Again { what: told(&status), may_have_committed },
        },
        Ok(Ok(response)) => {
            let response = response.into_inner();
            let is_known = cluster.learn(journal, response.header.as_ref());
            if is_known && is_elsewhere(response.status()) {
                return Tried::Elsewhere { what: format!("the broker answered {}", response.status()) };
            }
            judge(cluster, journal, (append, deadline), response).await
        }
    }
}

/// Returns the messages of a call: what is asked, the content, and the empty one that commits it.
fn messages(journal: &JournalName, append: &Append) -> VecDeque<AppendRequest> {
    let registers = |set: &crate::journal::RegisterSet| (!set.is_empty()).then(|| proto::labels(set));
    let first = AppendRequest {
        journal: journal.as_str().to_owned(),
        offset: append.at.map_or(0, proto::wire_offset),
        check_registers: append.check.as_ref().map(proto::selector),
        union_registers: registers(&append.union),
        subtract_registers: registers(&append.subtract),
        ..AppendRequest::default()
    };
    let mut messages = VecDeque::from([first]);
    for piece in &append.content {
        let mut rest = piece.clone();
        while !rest.is_empty() {
            let content = rest.split_to(rest.len().min(CHUNK_BYTES));
            messages.push_back(AppendRequest { content, ..AppendRequest::default() });
        }
    }
    messages.push_back(AppendRequest::default());
    messages
}

/// What is sent, and whether its end, which commits it, was handed over.
struct Messages {
    messages: VecDeque<AppendRequest>,
    asked: Arc<AtomicBool>,
}

impl Stream for Messages {
    type Item = AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
        let next = self.messages.pop_front();
        if next.is_none() {
            // Only the end of the call commits.
            self.asked.store(true, Ordering::Release);
        }
        Poll::Ready(next)
    }
}

/// Takes an answer for what it is.
async fn judge(
    cluster: &Cluster,
    journal: &JournalName,
    (append, deadline): (&Append, Deadline),
    response: AppendResponse,
) -> Tried {
    let status = response.status();
    let answer = match status {
        Status::Ok => committed(journal, append, &response),
        Status::RegisterMismatch => {
            let registers = proto::registers(response.registers);
            Err(JournalError::RegisterMismatch { journal: journal.clone(), registers })
        }
        Status::WrongAppendOffset => {
            let at = append.at.unwrap_or(Offset::ZERO);
            // The answer does not say where the head is; that of an append of nothing, anywhere, does.
            let barrier = Box::pin(send(cluster, journal, Append::default(), deadline)).await;
            barrier.and_then(|Appended { end: head, .. }| {
                Err(JournalError::WrongOffset { journal: journal.clone(), at, head })
            })
        }
        Status::IndexHasGreaterOffset => {
            let what = "a fragment store holds more of the journal than its brokers have: some were lost with what they had";
            let offset = append.at.unwrap_or(Offset::ZERO);
            Err(JournalError::Diverged { journal: journal.clone(), offset, what: what.into() })
        }
        Status::FragmentStoreUnhealthy => Err(JournalError::Unavailable {
            journal: journal.clone(),
            what: format!("the fragment store is not healthy: {}", response.store_health_error),
        }),
        status if is_passing(status) => {
            return Tried::Again { what: format!("the broker answered {status}"), may_have_committed: false };
        }
        status @ (Status::JournalNotFound | Status::NotAllowed) => Err(refused(journal, status)),
        status => {
            return Tried::Again { what: format!("the broker answered {status}"), may_have_committed: true };
        }
    };
    Tried::Answer(answer)
}

fn committed(journal: &JournalName, append: &Append, response: &AppendResponse) -> Answer {
    let at = append.at.unwrap_or(Offset::ZERO);
    let commit = response.commit.as_ref().and_then(proto::Fragment::checked);
    let Some(commit) = commit else {
        return Err(lie(
            journal,
            at,
            "an append that names no range",
            "a range",
            format!("{:?}", response.commit),
        ));
    };
    let named = response.commit.as_ref().map(|commit| commit.journal.as_str()).unwrap_or_default();
    if named != journal.as_str() {
        return Err(lie(journal, at, "an append to another journal", journal, named));
    }
    let bytes = append.content_bytes();
    if commit.content_bytes() != bytes {
        return Err(lie(journal, at, "an append of another length", bytes, commit.content_bytes()));
    }
    if let Some(at) = append.at.filter(|&at| at != commit.begin) {
        return Err(lie(journal, at, "an append at another offset", at, commit.begin));
    }
    let registers = proto::registers(response.registers.clone());
    Ok(Appended { begin: commit.begin, end: commit.end, registers })
}
