//! Appends: what is asked, the content, the empty message and the end of the call, in that order.
//!
//! *Invariants.* The appends of a journal commit one after the other, each whole or not at all. Nothing commits before the
//! client has ended its side of the call.
//!
//! *Does not* measure a rate: a client that is silent for a second is too slow.

use std::time::Duration;

use tonic::{Request, Response, Status as Failed, Streaming};

use super::fault::{Call, Fault};
use super::service::{Service, name, unknown};
use crate::protocol::{AppendRequest, AppendResponse, Label, Status, append_request};

/// How long a client may be silent.
const SILENCE_MAX: Duration = Duration::from_millis(1_050);

/// What was sent for a commit.
struct Sent {
    content: Vec<u8>,
    chunks: i64,
}

pub(super) async fn append(
    service: &Service,
    request: Request<Streaming<AppendRequest>>,
) -> Result<Response<AppendResponse>, Failed> {
    let (metadata, extensions, mut messages) = request.into_parts();
    let Some(first) = messages.message().await? else { return Err(unknown("EOF")) };
    let request = Request::from_parts(metadata, extensions, ());
    let fault = service.meet(Call::Append, &first.journal, &request)?;
    check(&first)?;
    let answer = |status: Status| response(service, &first, status);
    let stops = match &fault {
        Some(fault) => service.suffer(fault).await?,
        None => None,
    };
    if let Some(status) = stops {
        return Ok(Response::new(answer(status)));
    }
    let turn = {
        let state = service.cluster.lock();
        let Some(log) = state.logs.get(&first.journal) else {
            drop(state);
            return Ok(Response::new(answer(Status::JournalNotFound)));
        };
        let status = match log.primary {
            None => Some(Status::NoJournalPrimaryBroker),
            Some(primary) if primary == service.at => None,
            Some(_) if first.do_not_proxy || !service.cluster.options.proxies => {
                Some(Status::NotJournalPrimaryBroker)
            }
            Some(_) => None,
        };
        let turn = std::sync::Arc::clone(&log.turn);
        drop(state);
        if let Some(status) = status {
            return Ok(Response::new(answer(status)));
        }
        turn
    };
    let _turn = turn.lock().await;
    let refused = {
        let mut state = service.cluster.lock();
        let Some(log) = state.logs.get_mut(&first.journal) else {
            drop(state);
            return Ok(Response::new(answer(Status::JournalNotFound)));
        };
        if first.suspend() == append_request::Suspend::Resume {
            log.is_suspended = false;
        }
        if log.is_suspended { Some(Status::Suspended) } else { log.refuses(&first) }
    };
    if let Some(status) = refused {
        return Ok(Response::new(answer(status)));
    }
    let sent = match &fault {
        Some(Fault::After(messages_read, fault)) => {
            for _ in 1..*messages_read {
                next(&mut messages).await?;
            }
            let stops = service.suffer(fault).await?;
            if let Some(status) = stops {
                return Ok(Response::new(answer(status)));
            }
            content(&mut messages).await?
        }
        _ => content(&mut messages).await?,
    };
    commit(service, &first, &sent, fault).await.map(Response::new)
}

async fn commit(
    service: &Service,
    first: &AppendRequest,
    sent: &Sent,
    fault: Option<Fault>,
) -> Result<AppendResponse, Failed> {
    let registers =
        |set: &Option<_>| set.as_ref().is_some_and(|set: &crate::protocol::LabelSet| !set.labels.is_empty());
    if sent.content.is_empty() && (registers(&first.union_registers) || registers(&first.subtract_registers))
    {
        return Err(unknown("append stream: register modification requires non-empty Append"));
    }
    let committed = {
        let mut state = service.cluster.lock();
        let log = state.logs.get_mut(&first.journal);
        // Whether it may commit is asked again: a test may have changed the journal meanwhile.
        log.map(|log| match log.refuses(first) {
            Some(status) => Err(status),
            None if log.is_read_only() && !sent.content.is_empty() => Err(Status::NotAllowed),
            None => Ok(log.commit(first, &sent.content)),
        })
    };
    service.cluster.tell();
    let answer = |status| response(service, first, status);
    let commit = match committed {
        None => return Ok(answer(Status::JournalNotFound)),
        Some(Err(status)) => return Ok(answer(status)),
        Some(Ok(commit)) => commit,
    };
    let mut response = answer(Status::Ok);
    (response.commit, response.total_chunks) = (Some(commit), sent.chunks);
    match fault {
        Some(Fault::Committed(fault)) => {
            if let Some(status) = service.suffer(&fault).await? {
                return Ok(answer(status));
            }
        }
        Some(Fault::LieAppend(lie)) => lie(&mut response),
        _ => {}
    }
    Ok(response)
}

/// Returns an answer with what one of this status has in it.
fn response(service: &Service, first: &AppendRequest, status: Status) -> AppendResponse {
    let state = service.cluster.lock();
    let log = state.logs.get(&first.journal);
    // One that was asked for by another is answered by the primary.
    let at = match log.and_then(|log| log.primary) {
        Some(primary) if service.cluster.options.proxies && !first.do_not_proxy => primary,
        _ => service.at,
    };
    let shows = matches!(status, Status::Ok | Status::RegisterMismatch);
    let registers = log.filter(|_| shows).map(|log| log.registers.clone());
    let unhealthy = log.filter(|_| status == Status::FragmentStoreUnhealthy);
    AppendResponse {
        status: status.into(),
        header: Some(service.cluster.header(at, log, state.revision)),
        registers,
        store_health_error: unhealthy.map(|log| log.store_health_error.clone()).unwrap_or_default(),
        ..AppendResponse::default()
    }
}

/// Refuses what brokers refuse in the first message.
fn check(first: &AppendRequest) -> Result<(), Failed> {
    // An empty name is answered as one that is not there.
    if !first.journal.is_empty() {
        name(&first.journal).map_err(|what| unknown(format!("Journal: {what}")))?;
    }
    if first.offset < 0 {
        return Err(unknown(format!("invalid Offset ({}; expected >= 0)", first.offset)));
    }
    if !first.content.is_empty() {
        return Err(unknown("unexpected Content"));
    }
    for (set, of) in [(&first.union_registers, "Union"), (&first.subtract_registers, "Subtract")] {
        for (at, label) in set.iter().flat_map(|set| &set.labels).enumerate() {
            register(label).map_err(|what| unknown(format!("{of}Registers.Labels[{at}].{what}")))?;
        }
    }
    Ok(())
}

/// Refuses what is no register.
fn register(label: &Label) -> Result<(), String> {
    let is_token =
        |text: &str, more: &str| text.chars().all(|char| char.is_alphanumeric() || more.contains(char));
    if !(2..=64).contains(&label.name.len()) {
        return Err(format!("Name: invalid length ({}; expected 2 <= length <= 64)", label.name.len()));
    }
    if !is_token(&label.name, "-_+/.") {
        return Err(format!("Name: not a valid token ({})", label.name));
    }
    if !is_token(&label.value, "-_+/.=%") {
        return Err(format!("Value: not a valid token ({})", label.value));
    }
    Ok(())
}

/// Waits for a message, as long as brokers do; `None` at the end of the client's side.
async fn next(messages: &mut Streaming<AppendRequest>) -> Result<Option<AppendRequest>, Failed> {
    let too_slow = || unknown("append stream: client stream didn't sustain the minimum append data rate");
    tokio::time::timeout(SILENCE_MAX, messages.message()).await.map_err(|_| too_slow())?
}

/// Takes the content, up to the end of the client's side.
async fn content(messages: &mut Streaming<AppendRequest>) -> Result<Sent, Failed> {
    let mut sent = Sent { content: Vec::new(), chunks: 0 };
    loop {
        let Some(message) = next(messages).await? else {
            return Err(unknown("append stream: unexpected EOF"));
        };
        sent.chunks += 1;
        if message.content.is_empty() {
            break;
        }
        if message.offset != 0 {
            return Err(unknown("append stream: unexpected Offset"));
        }
        if !message.journal.is_empty() {
            return Err(unknown("append stream: unexpected Journal"));
        }
        sent.content.extend_from_slice(&message.content);
    }
    match next(messages).await? {
        None => Ok(sent),
        Some(_) => Err(unknown("append stream: expected EOF after empty Content chunk")),
    }
}
