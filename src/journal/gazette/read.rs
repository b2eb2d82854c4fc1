//! Reads: calls of brokers one after the other, each from where the last one ended, into a queue that a thread takes from.
//!
//! *Invariants.* What is handed on continues what was handed on before, or is said to be missing. Nothing that a broker says
//! is handed on before it is seen to fit what it said before. A reader that is dropped ends its task.
//!
//! *Does not* wait for bytes that are missing below the head: a hole is a jump.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinHandle;

use super::cluster::{Cluster, Whom};
use super::pipe::Pipe;
use super::proto::{self, ReadRequest, ReadResponse, Status};
use super::retry::{final_error, is_elsewhere, is_passing, lie, refused, told};
use super::store;
use super::token::May;
use crate::clock::Deadline;
use crate::ids::{JournalName, Offset};
use crate::journal::{
    Append, Chunk, Fragment, Interrupter, JournalError, JournalReader, ReadRange, ReadStep,
};
use crate::remote::Backoff;

/// A reader of one journal.
pub(super) struct GazetteReader {
    cluster: Arc<Cluster>,
    journal: JournalName,
    offset: Offset,
    pipe: Arc<Pipe>,
    task: Option<JoinHandle<()>>,
}

impl GazetteReader {
    pub(super) fn new(cluster: &Arc<Cluster>, journal: &JournalName, range: ReadRange) -> Self {
        let pipe = Arc::new(Pipe::new());
        let reading = Reading {
            cluster: Arc::clone(cluster),
            journal: journal.clone(),
            offset: range.begin,
            end: range.end,
            pipe: Arc::clone(&pipe),
            is_direct: true,
        };
        // It holds the cluster, whose threads it is run by, only while it works: see `Drop`.
        let task = cluster.spawn(reading.run());
        let (cluster, journal) = (Arc::clone(cluster), journal.clone());
        Self { cluster, journal, offset: range.begin, pipe, task }
    }
}

impl Drop for GazetteReader {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl JournalReader for GazetteReader {
    fn next(&mut self, deadline: Deadline) -> Result<ReadStep, JournalError> {
        let step = self.pipe.take(&self.journal, deadline, self.cluster.options.answer_max)?;
        match &step {
            ReadStep::Chunk(chunk) => self.offset = chunk.offset().saturating_add(chunk.len()),
            ReadStep::Jump { to, .. } => self.offset = *to,
            _ => {}
        }
        Ok(step)
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    fn interrupter(&self) -> Interrupter {
        let pipe = Arc::clone(&self.pipe);
        Interrupter::new(move || pipe.interrupt())
    }
}

impl fmt::Debug for GazetteReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GazetteReader")
            .field("journal", &self.journal)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// The task behind a reader.
struct Reading {
    cluster: Arc<Cluster>,
    journal: JournalName,
    offset: Offset,
    end: Option<Offset>,
    pipe: Arc<Pipe>,
    /// Fragments are read from their store where that can be reached.
    is_direct: bool,
}

/// How a call ended.
enum Ended {
    /// As it should; there may be more.
    Well,
    /// Everything up to the head was read.
    AtHead(Offset),
    /// There is nothing here, and something further on.
    InHole(Offset),
    /// The journal has to be woken.
    Suspended,
    /// It may work when it is tried again.
    Badly(String),
    /// Another broker is named, which is to be asked.
    Elsewhere(String),
}

impl Reading {
    async fn run(mut self) {
        let outcome = self.read_all().await;
        match outcome {
            Ok(()) => self.pipe.end(),
            Err(error) => self.pipe.fail(error),
        }
    }

    fn limit(&self) -> Offset {
        self.end.unwrap_or(Offset::MAX)
    }

    async fn read_all(&mut self) -> Result<(), JournalError> {
        let patience = self.cluster.options.read_max;
        let mut backoff = Backoff::new(Deadline::after(patience));
        // Wait at the broker for what is not there yet.
        let mut block = false;
        while self.offset < self.limit() {
            let before = self.offset;
            let ended = self.call(block).await?;
            if self.offset > before {
                backoff.reset(Deadline::after(patience));
            }
            block = false;
            let is_elsewhere = matches!(ended, Ended::Elsewhere(_));
            match ended {
                Ended::Well if self.offset > before => {}
                Ended::Well => {
                    // A broker may end a call whenever it likes, but not for ever.
                    if !backoff.wait().await {
                        return Err(self.unavailable("the brokers end each read at once".into()));
                    }
                }
                Ended::AtHead(head) => {
                    self.pipe.is_at_head(Some(head));
                    backoff.reset(Deadline::after(patience));
                    block = true;
                }
                Ended::InHole(head) => self.jump(head, &mut backoff).await?,
                Ended::Suspended => {
                    let cluster = Arc::clone(&self.cluster);
                    let woken =
                        super::append::send(&cluster, &self.journal, Append::default(), backoff.deadline());
                    woken.await?;
                }
                Ended::Badly(what) | Ended::Elsewhere(what) => {
                    if !is_elsewhere {
                        self.cluster.forget(Some(&self.journal));
                    }
                    self.pipe.is_in_trouble(what.clone());
                    if !backoff.wait().await {
                        return Err(self.unavailable(what));
                    }
                }
            }
        }
        Ok(())
    }

    fn unavailable(&self, what: String) -> JournalError {
        JournalError::Unavailable { journal: self.journal.clone(), what }
    }

    fn lie(&self, what: &str, expected: impl ToString, actual: impl ToString) -> JournalError {
        lie(&self.journal, self.offset, what, expected, actual)
    }

    /// Reads until one call ends.
    async fn call(&mut self, block: bool) -> Result<Ended, JournalError> {
        let mut client = match self.cluster.client(Some(&self.journal), Whom::Any) {
            Ok(client) => client,
            Err(what) => return Ok(Ended::Badly(what)),
        };
        let message = ReadRequest {
            journal: self.journal.as_str().to_owned(),
            offset: proto::wire_offset(self.offset),
            block,
            end_offset: self.end.map_or(0, proto::wire_offset),
            ..ReadRequest::default()
        };
        let request = match self.cluster.request(message, May::Read) {
            Ok(request) => request,
            Err(what) => return Ok(Ended::Badly(what)),
        };
        let answer_max = self.cluster.options.answer_max;
        let failed = |status: &tonic::Status| match final_error(&self.journal, status) {
            Some(error) => Err(error),
            None => Ok(Ended::Badly(told(status))),
        };
        // A call that waits for bytes need not be answered before there are some.
        let opened = client.read(request);
        let opened = if block { Ok(opened.await) } else { tokio::time::timeout(answer_max, opened).await };
        let mut responses = match opened {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return failed(&status),
            Err(_) => return Ok(Ended::Badly("a broker did not answer a read".into())),
        };
        let mut now = Now::default();
        let mut is_first = true;
        loop {
            let next = responses.message();
            let waits = block && now.is_at_head(self.offset, is_first);
            let next = if waits { Ok(next.await) } else { tokio::time::timeout(answer_max, next).await };
            let response = match next {
                Ok(Ok(Some(response))) => response,
                Ok(Ok(None)) => return Ok(Ended::Well),
                Ok(Err(status)) => {
                    return match final_error(&self.journal, &status) {
                        Some(error) => Err(error),
                        None => Ok(Ended::Badly(told(&status))),
                    };
                }
                Err(_) => return Ok(Ended::Badly("a broker went silent in a read".into())),
            };
            if is_first {
                is_first = false;
                let is_known = self.cluster.learn(&self.journal, response.header.as_ref());
                if is_known && is_elsewhere(response.status()) {
                    return Ok(Ended::Elsewhere(format!("the broker answered {}", response.status())));
                }
            }
            if let Some(ended) = self.take(response, &mut now).await? {
                return Ok(ended);
            }
            if self.offset >= self.limit() {
                return Ok(Ended::Well);
            }
        }
    }

    /// Takes one response; returns how the call has ended, where it has.
    async fn take(&mut self, response: ReadResponse, now: &mut Now) -> Result<Option<Ended>, JournalError> {
        match response.status() {
            Status::Ok => {}
            Status::OffsetNotYetAvailable => {
                let head = proto::offset(response.write_head);
                let head =
                    head.ok_or_else(|| self.lie("a head below 0", "an offset", response.write_head))?;
                return Ok(Some(if head > self.offset { Ended::InHole(head) } else { Ended::AtHead(head) }));
            }
            Status::Suspended => return Ok(Some(Ended::Suspended)),
            status if is_passing(status) => {
                return Ok(Some(Ended::Badly(format!("the broker answered {status}"))));
            }
            status => return Err(refused(&self.journal, status)),
        }
        let Some(offset) = proto::offset(response.offset) else {
            return Err(self.lie("an offset below 0", self.offset, response.offset));
        };
        if let Some(named) = &response.fragment {
            return self.take_fragment(named, offset, &response, now).await;
        }
        if offset != self.offset {
            return Err(self.lie("content at another offset", self.offset, offset));
        }
        let Some(fragment) = &now.fragment else {
            return Err(self.lie("content of no fragment", "a fragment first", offset));
        };
        let mut bytes = response.content;
        if bytes.is_empty() {
            return Err(self.lie("content without bytes", "bytes", "none"));
        }
        if offset.saturating_add(bytes.len() as u64) > fragment.end {
            return Err(self.lie("content past the end of its fragment", fragment.end, bytes.len()));
        }
        bytes.truncate(usize::try_from(self.limit().bytes_since(offset)).unwrap_or(usize::MAX));
        self.offset = offset.saturating_add(bytes.len() as u64);
        self.pipe.push(ReadStep::Chunk(Chunk::Bytes { offset, bytes })).await;
        if self.offset >= now.head && self.offset < self.limit() {
            self.pipe.is_at_head(Some(now.head));
        }
        Ok(None)
    }

    /// Takes what a response says of the fragment that comes.
    async fn take_fragment(
        &mut self,
        named: &proto::Fragment,
        offset: Offset,
        response: &ReadResponse,
        now: &mut Now,
    ) -> Result<Option<Ended>, JournalError> {
        let Some(fragment) = named.checked().filter(|_| named.journal == self.journal.as_str()) else {
            return Err(self.lie(
                "a fragment that is none of this journal",
                &self.journal,
                format!("{named:?}"),
            ));
        };
        let head = proto::offset(response.write_head).filter(|&head| head >= fragment.end);
        let Some(head) = head else {
            return Err(self.lie("a head before the end of a fragment", fragment.end, response.write_head));
        };
        if offset < self.offset {
            return Err(self.lie("an offset before the one that was asked for", self.offset, offset));
        }
        if offset < fragment.begin || offset > fragment.end {
            let range = format!("an offset within [{}, {}]", fragment.begin, fragment.end);
            return Err(self.lie("an offset outside of its fragment", range, offset));
        }
        if offset > self.offset {
            self.skip_to(offset).await;
            if self.offset >= self.limit() {
                return Ok(Some(Ended::Well));
            }
        }
        (now.head, now.fragment) = (head, Some(fragment.clone()));
        if !self.is_direct || response.fragment_url.is_empty() || offset == fragment.end {
            return Ok(None);
        }
        let source = store::source(&self.cluster, &self.journal, &fragment, &response.fragment_url);
        let Some(source) = source else { return Ok(None) };
        let mut content = store::Content::begin(&self.journal, source, fragment, (offset, self.limit()));
        loop {
            match content.next().await {
                Ok(Some(bytes)) => {
                    let offset = self.offset;
                    self.offset = offset.saturating_add(bytes.len() as u64);
                    self.pipe.push(ReadStep::Chunk(Chunk::Bytes { offset, bytes })).await;
                }
                Ok(None) => return Ok(Some(Ended::Well)),
                Err(error @ JournalError::Corrupt { .. }) => return Err(error),
                Err(error) => {
                    // The broker may reach what we cannot.
                    self.is_direct = false;
                    return Ok(Some(Ended::Badly(error.to_string())));
                }
            }
        }
    }

    /// Hands on that there is nothing up to `offset`.
    async fn skip_to(&mut self, offset: Offset) {
        let (from, to) = (self.offset, offset.min(self.limit()));
        self.offset = to;
        self.pipe.push(ReadStep::Jump { from, to }).await;
    }

    /// Finds the end of a hole in which a broker has nothing, by what is stored. It may be one that is filled when the broker
    /// looks into its store again: then it is waited for.
    async fn jump(&mut self, head: Offset, backoff: &mut Backoff) -> Result<(), JournalError> {
        let there = super::list::fragments(&self.cluster, &self.journal, backoff.deadline()).await?;
        let is_there =
            there.iter().any(|fragment| fragment.begin <= self.offset && self.offset < fragment.end);
        let next = there.iter().map(|fragment| fragment.begin).filter(|&begin| begin > self.offset).min();
        let what = match next {
            Some(next) if !is_there => {
                self.skip_to(next.min(head)).await;
                return Ok(());
            }
            Some(_) => "a broker lists a fragment and does not read it",
            None => "a broker has a head further on than all that it lists",
        };
        // A broker that has just started may not know of it yet.
        self.pipe.is_in_trouble(what.into());
        if backoff.wait().await { Ok(()) } else { Err(self.unavailable(what.into())) }
    }
}

/// What a call has said so far.
#[derive(Default)]
struct Now {
    fragment: Option<Fragment>,
    head: Offset,
}

impl Now {
    /// Tells whether the broker has sent all that it said there is.
    fn is_at_head(&self, offset: Offset, is_first: bool) -> bool {
        is_first || offset >= self.head
    }
}
