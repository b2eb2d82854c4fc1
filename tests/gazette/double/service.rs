//! The calls of a broker: who may make them, and those that are one answer: listings and changes of journals.
//!
//! *Invariants.* A call of a journal that is not there, or by somebody who may not see it, is answered as brokers do. Each
//! call is written down.
//!
//! *Does not* watch: a listing ends.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request, Response, Status as Failed, Streaming};

use super::fault::{self, Call, Fault};
use super::labels;
use super::log::Log;
use super::store::Store;
use super::{Came, Cluster, State};
use crate::protocol::journal_server::Journal;
use crate::protocol::{
    AppendRequest, AppendResponse, ApplyRequest, ApplyResponse, FragmentsRequest, FragmentsResponse,
    JournalSpec, ListRequest, ListResponse, ReadRequest, ReadResponse, Status, fragments_response,
    list_response,
};

/// Fragments of a page where a request does not say.
const PAGE_LIMIT: usize = 1_000;

/// The service of one broker.
pub(super) struct Service {
    pub(super) cluster: Arc<Cluster>,
    pub(super) at: usize,
}

/// Returns a failure in Gazette's way: without a code of its own.
pub(super) fn unknown(what: impl Into<String>) -> Failed {
    Failed::new(Code::Unknown, what)
}

/// Returns once either has happened.
pub(super) async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| {
        let is_done = one.as_mut().poll(context).is_ready() || other.as_mut().poll(context).is_ready();
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Service {
    /// Writes a call down, and returns the fault that it meets.
    pub(super) fn meet<T>(
        &self,
        call: Call,
        journal: &str,
        request: &Request<T>,
    ) -> Result<Option<Fault>, Failed> {
        let authorization = request.metadata().get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
        let mut state = self.cluster.lock();
        let journal = journal.to_owned();
        let fault = fault::take(&mut state.faults, call, &journal);
        let came = Came { call, journal, broker: self.at, authorization: authorization.clone() };
        state.calls.push(came);
        if state.authorization.is_some() && authorization != state.authorization {
            return Err(Failed::unauthenticated("verifying Authorization: token signature is invalid"));
        }
        Ok(fault)
    }

    /// Does what ends a call, or holds it up. Returns the status to answer, where there is one.
    pub(super) async fn suffer(&self, fault: &Fault) -> Result<Option<Status>, Failed> {
        match fault {
            Fault::Status(status) => return Ok(Some(*status)),
            Fault::Code(code) => return Err(Failed::new(*code, "a test says so")),
            Fault::Stall(stall) => tokio::time::sleep(*stall).await,
            Fault::Lose => {
                self.cluster.brokers[self.at].cut();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Checks a change, and makes it.
    fn change(&self, state: &mut State, spec: JournalSpec, expected: i64) -> Result<Status, Failed> {
        check(&spec)?;
        let there = state.logs.get(&spec.name).map_or(0, |log| log.modified);
        if expected != -1 && expected != there {
            return Ok(Status::EtcdTransactionFailed);
        }
        state.revision += 1;
        let (revision, options) = (state.revision, &self.cluster.options);
        if let Some(log) = state.logs.get_mut(&spec.name) {
            (log.spec, log.modified) = (spec, revision);
        } else {
            let store = Store { root: options.store.clone() };
            let log = Log::new(spec.clone(), revision, options.primary, store);
            state.logs.insert(spec.name, log);
        }
        Ok(Status::Ok)
    }

    fn page(&self, request: &FragmentsRequest) -> FragmentsResponse {
        let state = self.cluster.lock();
        let log = state.logs.get(&request.journal);
        let header = Some(self.cluster.header(self.at, log, state.revision));
        let Some(log) = log else {
            return FragmentsResponse {
                status: Status::JournalNotFound.into(),
                header,
                ..FragmentsResponse::default()
            };
        };
        let limit = usize::try_from(request.page_limit).unwrap();
        let limit = if limit == 0 { PAGE_LIMIT } else { limit }.min(state.page_limit);
        let mut all = log.all_fragments();
        all.retain(|fragment| {
            let is_open = fragment.backing_store.is_empty() && request.end_mod_time == 0;
            let is_in = fragment.mod_time >= request.begin_mod_time
                && (request.end_mod_time == 0 || fragment.mod_time < request.end_mod_time);
            fragment.begin >= request.next_page_token && (is_open || is_in)
        });
        let next_page_token = all.get(limit).map_or(0, |next| next.begin);
        all.truncate(limit);
        let signs = request.signature_ttl.is_some();
        let signed = |spec| {
            let signed_url = if signs { Log::url(&spec) } else { String::new() };
            fragments_response::Signed { spec: Some(spec), signed_url }
        };
        let fragments = all.into_iter().map(signed).collect();
        FragmentsResponse { status: Status::Ok.into(), header, fragments, next_page_token }
    }
}

/// Refuses what brokers refuse in the description of a journal.
fn check(spec: &JournalSpec) -> Result<(), Failed> {
    let invalid = |what: String| Err(unknown(format!("Changes[0].Upsert.{what}")));
    name(&spec.name).map_err(|what| unknown(format!("Changes[0].Upsert.Name: {what}")))?;
    let fragment = spec.fragment.clone().unwrap_or_default();
    if !(1024..=17_179_869_184).contains(&fragment.length) {
        return invalid(format!(
            "Fragment: invalid Length ({}; expected 1024 <= length <= 17179869184)",
            fragment.length
        ));
    }
    let flush = fragment.flush_interval.unwrap_or_default();
    if flush.seconds < 60 && (flush.seconds, flush.nanos) != (0, 0) {
        return invalid(format!("Fragment: invalid FlushInterval ({}s; expected >= 1m0s)", flush.seconds));
    }
    let refresh = fragment.refresh_interval.unwrap_or_default();
    if !(1..=24 * 3600).contains(&refresh.seconds) {
        return invalid(format!(
            "Fragment: invalid RefreshInterval ({}ms; expected 1s <= interval <= 24h0m0s)",
            refresh.nanos / 1_000_000
        ));
    }
    let labels = spec.labels.clone().unwrap_or_default().labels;
    if !labels.windows(2).all(|pair| (&pair[0].name, &pair[0].value) < (&pair[1].name, &pair[1].value)) {
        return invalid("LabelSet.Labels not in unique, sorted order".into());
    }
    Ok(())
}

/// Refuses what is no name of a journal.
pub(super) fn name(name: &str) -> Result<(), String> {
    if !(4..=512).contains(&name.len()) {
        return Err(format!("invalid length ({}; expected 4 <= length <= 512)", name.len()));
    }
    if name.starts_with('/') || name.ends_with('/') || name.contains("//") {
        return Err(format!("must be a clean path ({name})"));
    }
    let is_token = |char: char| char.is_alphanumeric() || "-_+/.=%".contains(char);
    if name.chars().all(is_token) { Ok(()) } else { Err(format!("not a valid token ({name})")) }
}

/// The answers of a call, as they are made.
pub(super) struct Answers<T> {
    /// The first, which was waited for: brokers answer with nothing before it.
    pub(super) first: Option<Result<T, Failed>>,
    pub(super) rest: mpsc::Receiver<Result<T, Failed>>,
}

impl<T: Unpin> Stream for Answers<T> {
    type Item = Result<T, Failed>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.rest.poll_recv(context),
        }
    }
}

#[tonic::async_trait]
impl Journal for Service {
    type ListStream = Answers<ListResponse>;
    type ReadStream = Answers<ReadResponse>;

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Failed> {
        let fault = self.meet(Call::List, "", &request)?;
        let status = match &fault {
            Some(fault) => self.suffer(fault).await?,
            None => None,
        };
        let request = request.into_inner();
        if request.watch {
            return Err(Failed::unimplemented("the double does not watch"));
        }
        let state = self.cluster.lock();
        let mut response = ListResponse {
            status: status.unwrap_or(Status::Ok).into(),
            header: Some(self.cluster.header(self.at, None, state.revision)),
            journals: Vec::new(),
        };
        let selector = request.selector.unwrap_or_default();
        for log in state.logs.values().filter(|log| labels::matches(&selector, &log.listed_by())) {
            response.journals.push(list_response::Journal {
                spec: Some(log.spec.clone()),
                mod_revision: log.modified,
                route: self.cluster.header(self.at, Some(log), state.revision).route,
                create_revision: log.created,
            });
        }
        drop(state);
        if status.is_some() {
            response.journals.clear();
        }
        if let Some(Fault::LieList(lie)) = &fault {
            lie(&mut response);
        }
        // Further journals come in messages of their own.
        let rest = response.journals.split_off(response.journals.len().min(1));
        let (sender, receiver) = mpsc::channel(2);
        if !rest.is_empty() {
            drop(sender.try_send(Ok(ListResponse { journals: rest, ..ListResponse::default() })));
        }
        match fault {
            Some(Fault::After(_, fault)) => {
                let Fault::Code(code) = *fault else { panic!("no fault of a listing: {fault:?}") };
                drop(sender.try_send(Err(Failed::new(code, "a test says so"))));
            }
            _ => drop(sender),
        }
        Ok(Response::new(Answers { first: Some(Ok(response)), rest: receiver }))
    }

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Failed> {
        let changes = &request.get_ref().changes;
        let named = changes.iter().find_map(|change| Some(change.upsert.as_ref()?.name.clone()));
        let fault = self.meet(Call::Apply, &named.unwrap_or_default(), &request)?;
        let mut status = match &fault {
            Some(fault) => self.suffer(fault).await?,
            None => None,
        };
        if status.is_none() {
            let mut state = self.cluster.lock();
            for change in request.into_inner().changes {
                if let Some(spec) = change.upsert {
                    let changed = self.change(&mut state, spec, change.expect_mod_revision)?;
                    status = Some(changed).filter(|&changed| changed != Status::Ok);
                } else if state.logs.remove(&change.delete).is_none() {
                    status = Some(Status::EtcdTransactionFailed);
                }
            }
            drop(state);
            self.cluster.tell();
        }
        if let Some(Fault::Committed(fault)) = &fault {
            status = self.suffer(fault).await?;
        }
        let header = Some(self.cluster.header(self.at, None, self.cluster.lock().revision));
        Ok(Response::new(ApplyResponse { status: status.unwrap_or(Status::Ok).into(), header }))
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Failed> {
        super::read::read(self, request).await
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<AppendResponse>, Failed> {
        super::append::append(self, request).await
    }

    async fn list_fragments(
        &self,
        request: Request<FragmentsRequest>,
    ) -> Result<Response<FragmentsResponse>, Failed> {
        let fault = self.meet(Call::Fragments, &request.get_ref().journal, &request)?;
        let status = match &fault {
            Some(fault) => self.suffer(fault).await?,
            None => None,
        };
        let mut response = self.page(request.get_ref());
        if let Some(status) = status {
            response = FragmentsResponse {
                status: status.into(),
                header: response.header,
                ..FragmentsResponse::default()
            };
        }
        if let Some(Fault::LieFragments(lie)) = &fault {
            lie(&mut response);
        }
        Ok(Response::new(response))
    }
}
