//! Listing what is stored of a journal, and what brokers hold that is not yet.
//!
//! *Invariants.* Pages go forward. A hole in front of what is young is one only where the broker would pass over it too: it lists
//! its store every few minutes, and until then nobody knows whether another broker has stored something there.
//!
//! *Does not* read content.

use super::cluster::{Cluster, Whom};
use super::proto::{self, FragmentsRequest, ReadRequest, Status};
use super::retry::{final_error, is_passing, lie, refused, told};
use super::token::May;
use crate::clock::{Clock, Deadline, SystemClock};
use crate::ids::{JournalName, Offset};
use crate::journal::{Fragment, JournalError};
use crate::remote::{Backoff, Failed};

/// Fragments of one page.
const PAGE_FRAGMENTS: i32 = 1_000;
/// What was stored longer ago is not young. Brokers take half an hour; the rest is for clocks that differ.
const YOUNG_SECS: i64 = 40 * 60;

/// Lists what is stored, and what brokers hold that is not yet.
pub(super) async fn fragments(
    cluster: &Cluster,
    journal: &JournalName,
    deadline: Deadline,
) -> Result<Vec<Fragment>, JournalError> {
    let mut backoff = Backoff::new(deadline);
    loop {
        let tried = async {
            let listed = list(cluster, journal, deadline).await?;
            match unknown(cluster, journal, &listed, deadline).await? {
                None => Ok(listed),
                Some(at) => {
                    let what =
                        "what another broker has stored is not listed yet, or gone: nobody knows what is at";
                    Err((Failed::Again(format!("{what} {at}")), true))
                }
            }
        };
        let (what, is_known) = match tried.await {
            Ok(listed) => return Ok(listed),
            Err((Failed::Final(error), _)) => return Err(error),
            Err((Failed::Again(what), is_known)) => (what, is_known),
        };
        if !is_known {
            cluster.forget(Some(journal));
        }
        if !backoff.wait().await {
            return Err(JournalError::Unavailable { journal: journal.clone(), what });
        }
    }
}

/// What has failed, and whether the broker is to be asked again that was.
type Broken = (Failed<JournalError>, bool);

fn elsewhere(failed: Failed<JournalError>) -> Broken {
    (failed, false)
}

async fn list(cluster: &Cluster, journal: &JournalName, deadline: Deadline) -> Result<Vec<Fragment>, Broken> {
    let (mut listed, mut token) = (Vec::new(), 0);
    loop {
        let (mut page, next) = page_of(cluster, journal, (token, deadline)).await.map_err(elsewhere)?;
        listed.append(&mut page);
        if next == 0 {
            break;
        }
        if next <= token {
            let back = lie(journal, Offset::ZERO, "pages that go back", format!("past {token}"), next);
            return Err(elsewhere(Failed::Final(back)));
        }
        token = next;
    }
    listed.sort_by_key(|fragment: &Fragment| (fragment.begin, fragment.end));
    listed.dedup();
    // The sum of what still grows is that of its bytes so far.
    if let Some(last) = listed.last_mut().filter(|last| last.modified_unix_secs.is_none()) {
        last.sum = None;
    }
    Ok(listed)
}

/// Returns where something may be that is not listed.
async fn unknown(
    cluster: &Cluster,
    journal: &JournalName,
    listed: &[Fragment],
    deadline: Deadline,
) -> Result<Option<Offset>, Broken> {
    let now = SystemClock.unix_nanos() / 1_000_000_000;
    let is_young = |fragment: &Fragment| {
        fragment.modified_unix_secs.is_none_or(|stored| now.saturating_sub(stored) < YOUNG_SECS)
    };
    let Some(mut reached) = listed.first().map(|first| first.end) else { return Ok(None) };
    for fragment in listed {
        if fragment.begin > reached
            && is_young(fragment)
            && !is_hole(cluster, journal, reached, deadline).await.map_err(elsewhere)?
        {
            return Ok(Some(reached));
        }
        reached = reached.max(fragment.end);
    }
    Ok(None)
}

/// Tells whether a broker passes over what is at `offset`.
async fn is_hole(
    cluster: &Cluster,
    journal: &JournalName,
    offset: Offset,
    deadline: Deadline,
) -> Result<bool, Failed<JournalError>> {
    let mut client = cluster.client(Some(journal), Whom::Any).map_err(Failed::Again)?;
    let message = ReadRequest {
        journal: journal.as_str().to_owned(),
        offset: proto::wire_offset(offset),
        metadata_only: true,
        ..ReadRequest::default()
    };
    let request = cluster.request(message, May::Read).map_err(Failed::Again)?;
    let failed = |status: tonic::Status| {
        let again = || Failed::Again(told(&status));
        final_error(journal, &status).map_or_else(again, Failed::Final)
    };
    let answer = async {
        let mut answers = client.read(request).await.map_err(failed)?.into_inner();
        answers.message().await.map_err(failed)
    };
    let answer = tokio::time::timeout(deadline.remaining(), answer).await;
    let answer =
        answer.map_err(|_| Failed::Again("a broker did not answer before the deadline".into()))??;
    let answer = answer.ok_or_else(|| Failed::Again("a broker answered a read with nothing".into()))?;
    match answer.status() {
        Status::Ok => Ok(proto::offset(answer.offset).is_some_and(|found| found > offset)),
        Status::OffsetNotYetAvailable => Ok(false),
        status if is_passing(status) => Err(Failed::Again(format!("the broker answered {status}"))),
        status => Err(Failed::Final(refused(journal, status))),
    }
}

async fn page_of(
    cluster: &Cluster,
    journal: &JournalName,
    (token, deadline): (i64, Deadline),
) -> Result<(Vec<Fragment>, i64), Failed<JournalError>> {
    let mut client = cluster.client(Some(journal), Whom::Any).map_err(Failed::Again)?;
    let message = FragmentsRequest {
        journal: journal.as_str().to_owned(),
        next_page_token: token,
        page_limit: PAGE_FRAGMENTS,
        ..FragmentsRequest::default()
    };
    let request = cluster.request(message, May::Read).map_err(Failed::Again)?;
    let answered = tokio::time::timeout(deadline.remaining(), client.list_fragments(request)).await;
    let response = match answered {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            let again = || Failed::Again(told(&status));
            return Err(final_error(journal, &status).map_or_else(again, Failed::Final));
        }
        Err(_) => return Err(Failed::Again("a broker did not list before the deadline".into())),
    };
    cluster.learn(journal, response.header.as_ref());
    match response.status() {
        Status::Ok => {}
        status if is_passing(status) => return Err(Failed::Again(format!("the broker answered {status}"))),
        status => return Err(Failed::Final(refused(journal, status))),
    }
    let mut page = Vec::with_capacity(response.fragments.len());
    for fragment in &response.fragments {
        let spec = fragment.spec.as_ref();
        let checked = spec.filter(|spec| spec.journal == journal.as_str()).and_then(proto::Fragment::checked);
        page.push(checked.ok_or_else(|| {
            let what = "a fragment that is none of this journal";
            Failed::Final(lie(journal, Offset::ZERO, what, journal, format!("{spec:?}")))
        })?);
    }
    Ok((page, response.next_page_token))
}
