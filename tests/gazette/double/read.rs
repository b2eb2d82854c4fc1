//! Reads: of each fragment what it is, then its content, then whether there is more.
//!
//! *Invariants.* The answer begins with its first message, however long that takes. Content never goes past what was said
//! of its fragment.
//!
//! *Does not* end a read on its own that waits at the head.

use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::{Request, Response, Status as Failed};

use super::fault::{Call, Fault};
use super::log::Log;
use super::service::{Answers, Service, either, name, unknown};
use crate::protocol::{Fragment, Header, ReadRequest, ReadResponse, Status};

/// Content of one message at most.
const CHUNK_BYTES: i64 = 32_736;

type Sender = mpsc::Sender<Result<ReadResponse, Failed>>;

pub(super) async fn read(
    service: &Service,
    request: Request<ReadRequest>,
) -> Result<Response<Answers<ReadResponse>>, Failed> {
    let fault = service.meet(Call::Read, &request.get_ref().journal, &request)?;
    let mut request = request.into_inner();
    check(&request)?;
    let (sender, mut receiver) = mpsc::channel(1);
    let service = Service { cluster: Arc::clone(&service.cluster), at: service.at };
    if request.offset == -1 {
        let state = service.cluster.lock();
        request.offset = state.logs.get(&request.journal).map_or(0, Log::head);
    }
    let mut reading = Reading { service, request, fault, sender, sent: 0 };
    drop(tokio::spawn(async move {
        if let Err(Ended(Some(failed))) = reading.run().await {
            drop(reading.sender.send(Err(failed)).await);
        }
    }));
    let first = receiver.recv().await;
    Ok(Response::new(Answers { first, rest: receiver }))
}

/// Refuses what brokers refuse in a request.
fn check(request: &ReadRequest) -> Result<(), Failed> {
    name(&request.journal).map_err(|what| unknown(format!("Journal: {what}")))?;
    if request.offset < -1 {
        let what = "expected -1 <= Offset <= MaxInt64";
        return Err(unknown(format!("invalid Offset ({}; {what})", request.offset)));
    }
    if request.end_offset != 0 && request.end_offset < request.offset {
        let what = "expected 0 or Offset <= EndOffset";
        return Err(unknown(format!("invalid EndOffset ({}; {what})", request.end_offset)));
    }
    Ok(())
}

/// A read ends: as it should, or with a failure.
struct Ended(Option<Failed>);

struct Reading {
    service: Service,
    request: ReadRequest,
    fault: Option<Fault>,
    sender: Sender,
    /// Messages that were sent.
    sent: usize,
}

/// What a read finds where it is.
enum Found {
    /// Content of a fragment, and the head.
    Here { fragment: Fragment, offset: i64, head: i64, content: Vec<u8> },
    /// A status, with the offset and the head.
    Not(Status, i64, i64),
}

impl Reading {
    async fn run(&mut self) -> Result<(), Ended> {
        match self.fault.clone() {
            None | Some(Fault::After(..)) => {}
            Some(fault) => self.suffer(&fault).await?,
        }
        let mut moved = self.service.cluster.moved.subscribe();
        loop {
            moved.mark_unchanged();
            match self.find() {
                Found::Here { fragment, offset, head, content } => {
                    self.send_fragment(&fragment, offset, head).await?;
                    if self.request.metadata_only
                        || self.request.do_not_proxy && !fragment.backing_store.is_empty()
                    {
                        return Ok(());
                    }
                    self.send_content(offset, &content).await?;
                    if self.request.end_offset != 0 && self.request.offset >= self.request.end_offset {
                        return Ok(());
                    }
                }
                Found::Not(Status::OffsetNotYetAvailable, ..) if self.request.block => {
                    let sender = self.sender.clone();
                    either(async { drop(moved.changed().await) }, sender.closed()).await;
                    if sender.is_closed() {
                        return Err(Ended(None));
                    }
                }
                Found::Not(status, offset, write_head) => {
                    let header = self.header();
                    let status = status.into();
                    let last = ReadResponse { status, header, offset, write_head, ..ReadResponse::default() };
                    return self.send(last).await;
                }
            }
        }
    }

    fn header(&self) -> Option<Header> {
        let state = self.service.cluster.lock();
        let log = state.logs.get(&self.request.journal);
        (self.sent == 0).then(|| self.service.cluster.header(self.service.at, log, state.revision))
    }

    fn find(&self) -> Found {
        let (request, state) = (&self.request, self.service.cluster.lock());
        let Some(log) = state.logs.get(&request.journal) else {
            return Found::Not(Status::JournalNotFound, 0, 0);
        };
        if log.is_suspended {
            return Found::Not(Status::Suspended, 0, 0);
        }
        let is_mine = log.primary == Some(self.service.at) || self.service.cluster.options.proxies;
        if !is_mine || log.primary.is_none() {
            return Found::Not(Status::NotJournalBroker, 0, 0);
        }
        let head = log.head();
        let Some((fragment, offset)) = log.found(request.offset) else {
            return Found::Not(Status::OffsetNotYetAvailable, request.offset, head);
        };
        let end = if request.end_offset == 0 { fragment.end } else { fragment.end.min(request.end_offset) };
        let part = Fragment { begin: offset, end: end.max(offset), ..Fragment::default() };
        let content = log.bytes(&part).to_vec();
        Found::Here { fragment, offset, head, content }
    }

    async fn send_fragment(
        &mut self,
        fragment: &Fragment,
        offset: i64,
        write_head: i64,
    ) -> Result<(), Ended> {
        let message = ReadResponse {
            status: Status::Ok.into(),
            header: self.header(),
            offset,
            write_head,
            fragment: Some(fragment.clone()),
            fragment_url: Log::url(fragment),
            ..ReadResponse::default()
        };
        self.request.offset = offset;
        self.send(message).await
    }

    async fn send_content(&mut self, mut offset: i64, content: &[u8]) -> Result<(), Ended> {
        for chunk in content.chunks(usize::try_from(CHUNK_BYTES).unwrap()) {
            let content = chunk.to_vec().into();
            self.send(ReadResponse { offset, content, ..ReadResponse::default() }).await?;
            offset += i64::try_from(chunk.len()).unwrap();
        }
        self.request.offset = offset;
        Ok(())
    }

    /// Sends a message, unless a fault comes before it.
    async fn send(&mut self, mut message: ReadResponse) -> Result<(), Ended> {
        match self.fault.clone() {
            Some(Fault::After(sent, fault)) if sent == self.sent => self.suffer(&fault).await?,
            Some(Fault::LieRead(lie)) => lie(self.sent, &mut message),
            _ => {}
        }
        self.sent += 1;
        self.sender.send(Ok(message)).await.map_err(|_| Ended(None))
    }

    async fn suffer(&mut self, fault: &Fault) -> Result<(), Ended> {
        if let Fault::End = fault {
            return Err(Ended(None));
        }
        let status = self.service.suffer(fault).await.map_err(|failed| Ended(Some(failed)))?;
        let Some(status) = status else { return Ok(()) };
        let header = self.header();
        let last = ReadResponse { status: status.into(), header, ..ReadResponse::default() };
        drop(self.sender.send(Ok(last)).await);
        Err(Ended(None))
    }
}
