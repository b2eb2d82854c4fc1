//! Speaking to etcd: connections, what the keys of a shard hold, and transactions that change them.
//!
//! *Invariants.* What is read is of one revision. A request is made again where that is harmless, after a wait, until the
//! deadline of whoever asked; a transaction of unknown fate is not repeated, but decided anew by what the keys hold then.
//!
//! *Does not* decide what is written.

use std::fmt;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error as EtcdError, GetOptions, KeyValue, KvClient, Txn,
    TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::sync::Mutex;
use tonic::Code;

use super::shard::{BACKUPS_MAX, Held, Shard, Slot, Slots, Value, is_new_term};
use super::{EtcdOptions, is_secure};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hint_store::{encode, refuse_older};
use crate::hints::FsmHints;
use crate::remote::{Backoff, Failed, Threads, told};

/// The largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

type Tried<T> = Result<T, Failed<Error>>;

/// The members of a cluster, and the thread on which their clients run.
pub(super) struct Cluster {
    members: Vec<String>,
    connect: ConnectOptions,
    /// The longest wait for a connection and an answer.
    answer_max: Duration,
    member: Mutex<Member>,
    threads: Threads,
}

/// The member that is spoken to, until it does not answer.
#[derive(Default)]
struct Member {
    /// How often another one was chosen.
    turn: usize,
    /// Made by the first call.
    client: Option<Client>,
}

impl Cluster {
    /// Makes a cluster of these members. Nothing is asked yet.
    pub(super) fn new(members: Vec<String>, options: EtcdOptions) -> Result<Self> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_max)
            .with_timeout(options.answer_max)
            .with_keep_alive(options.keep_alive, options.answer_max)
            .with_keep_alive_while_idle(false)
            .with_tcp_keepalive(Duration::from_secs(30))
            // One that has lost the others says so, and does not answer by what it once knew.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if members.iter().any(|member| is_secure(member)) {
            connect = connect.with_tls(options.tls.config()?);
        }
        if let Some((name, password)) = options.user {
            connect = connect.with_user(name, password);
        }
        let answer_max = options.connect_max.saturating_add(options.answer_max);
        let threads = Threads::start("recoverylog-etcd", 1)?;
        Ok(Self { members, connect, answer_max, member: Mutex::default(), threads })
    }

    pub(super) const fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Returns what the keys of a shard hold.
    pub(super) async fn held(&self, shard: &Shard, deadline: Deadline) -> Result<Held> {
        let mut backoff = Backoff::new(deadline);
        loop {
            match self.try_held(shard).await {
                Ok(held) => return Ok(held),
                Err(failed) => wait_after(failed, shard, &mut backoff).await?,
            }
        }
    }

    /// Stores a set, unless a newer one is stored.
    pub(super) async fn store(
        &self,
        shard: &Shard,
        hints: &FsmHints,
        slots: Slots,
        deadline: Deadline,
    ) -> Result<()> {
        let content = encode(hints).0;
        let mut backoff = Backoff::new(deadline);
        loop {
            match self.try_store(shard, (hints, &content), slots).await {
                Ok(()) => return Ok(()),
                Err(failed) => wait_after(failed, shard, &mut backoff).await?,
            }
        }
    }

    async fn try_store(
        &self,
        shard: &Shard,
        (hints, content): (&FsmHints, &[u8]),
        slots: Slots,
    ) -> Tried<()> {
        let mut held = self.try_held(shard).await?;
        let sets = held.iter().filter_map(|(slot, value)| Some((*slot, value.decode().ok()?)));
        let sets: Vec<_> = sets.collect();
        refuse_older(hints, sets.iter().map(|(_, set)| set)).map_err(Failed::Final)?;
        let primary = sets.iter().find_map(|(slot, set)| (*slot == Slot::Primary).then_some(set));
        let slots = match slots {
            Slots::ByTerm if !is_new_term(primary, hints) => Slots::Primary,
            slots => slots,
        };
        for puts in shard.transactions(shard.plan(&held, content, slots)) {
            self.commit(shard, &mut held, puts).await?;
        }
        Ok(())
    }

    /// Reads the keys of a shard, as they are at one revision.
    async fn try_held(&self, shard: &Shard) -> Tried<Held> {
        let names = || Some(GetOptions::new().with_keys_only());
        let backups = names().map(|names| names.with_prefix().with_limit(i64::from(BACKUPS_MAX) * 10));
        let list = Txn::new().and_then([
            TxnOp::get(shard.key(Slot::Primary), names()),
            TxnOp::get(shard.backups_prefix(), backups),
        ]);
        let listed = self.ask(async |mut etcd| etcd.txn(list).await).await?;
        let revision = revision(&listed)?;
        let mut held = Held::new();
        for found in listed.op_responses() {
            let TxnOpResponse::Get(found) = found else { continue };
            for kv in found.kvs() {
                let is_primary = kv.key() == shard.key(Slot::Primary).as_bytes();
                let slot = if is_primary { Some(Slot::Primary) } else { shard.backup(kv.key()) };
                let Some(slot) = slot else { continue };
                let at = GetOptions::new().with_revision(revision);
                // One by one: each may be as large as etcd lets an answer be.
                let mut read = self.ask(async |mut etcd| etcd.get(kv.key(), Some(at)).await).await?;
                let Some(kv) = read.take_kvs().pop() else {
                    return Err(Failed::Again(format!("{} is listed and not there", shard.key(slot))));
                };
                let revision = kv.mod_revision();
                held.insert(slot, Value { revision, bytes: kv.into_key_value().1 });
            }
        }
        Ok(held)
    }

    /// Writes, if nothing has changed since `held` was read, and the shard is still assigned.
    async fn commit(&self, shard: &Shard, held: &mut Held, puts: Vec<(Slot, Vec<u8>)>) -> Tried<()> {
        let unchanged = |slot: Slot| {
            let revision = held.get(&slot).map_or(0, |value| value.revision);
            Compare::mod_revision(shard.key(slot), CompareOp::Equal, revision)
        };
        let mut conditions: Vec<_> = shard.slots(held).into_iter().map(unchanged).collect();
        let mut look = Vec::new();
        if let Some((key, revision)) = &shard.assignment {
            conditions.push(Compare::create_revision(key.clone(), CompareOp::Equal, *revision));
            look.push(TxnOp::get(key.clone(), Some(GetOptions::new().with_keys_only())));
        }
        let writes: Vec<_> =
            puts.iter().map(|(slot, bytes)| TxnOp::put(shard.key(*slot), bytes.as_slice(), None)).collect();
        let txn = Txn::new().when(conditions).and_then(writes).or_else(look);
        let answer = self.ask(async |mut etcd| etcd.txn(txn).await).await?;
        if !answer.succeeded() {
            let found = answer.op_responses().into_iter().find_map(|found| match found {
                TxnOpResponse::Get(found) => found.kvs().first().map(KeyValue::create_revision),
                _ => None,
            });
            let is_assigned = shard.assignment.as_ref().is_none_or(|(_, revision)| found == Some(*revision));
            return Err(if is_assigned {
                Failed::Again("others store at the same time".into())
            } else {
                Failed::Final(shard.superseded())
            });
        }
        let revision = revision(&answer)?;
        held.extend(puts.into_iter().map(|(slot, bytes)| (slot, Value { revision, bytes })));
        Ok(())
    }

    /// Asks the member that is spoken to; where it does not answer, another one is spoken to next.
    ///
    /// One client that has all members asks each of them in turn, those too that are away.
    async fn ask<T>(&self, call: impl AsyncFnOnce(KvClient) -> Result<T, EtcdError>) -> Tried<T> {
        let mut turn = 0;
        let answer = async {
            let kv = {
                let mut member = self.member.lock().await;
                turn = member.turn;
                if member.client.is_none() {
                    let address = self.members.iter().cycle().nth(turn % self.members.len().max(1));
                    let connect = Client::connect(address.as_slice(), Some(self.connect.clone()));
                    member.client = Some(connect.await?);
                }
                member.client.as_ref().map(Client::kv_client)
            };
            let kv = kv.ok_or_else(|| EtcdError::InvalidArgs("no member is named".into()))?;
            let kv = kv.max_decoding_message_size(ANSWER_BYTES_MAX);
            call(kv.max_encoding_message_size(ANSWER_BYTES_MAX)).await
        };
        let failed = match tokio::time::timeout(self.answer_max, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => judge(error),
            Err(_) => Failed::Again(format!("no answer within {:?}", self.answer_max)),
        };
        let mut member = self.member.lock().await;
        if member.turn == turn {
            *member = Member { turn: turn.wrapping_add(1), client: None };
        }
        Err(failed)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("members", &self.members).finish_non_exhaustive()
    }
}

fn revision(answer: &TxnResponse) -> Tried<i64> {
    let revision = answer.header().map(etcd_client::ResponseHeader::revision);
    revision.ok_or_else(|| Failed::Again("an answer tells no revision".into()))
}

/// Waits before the next try.
///
/// # Errors
/// What has failed, where that is final, or where there is no time for another try.
async fn wait_after(failed: Failed<Error>, shard: &Shard, backoff: &mut Backoff) -> Result<()> {
    match failed {
        Failed::Final(error) => Err(error),
        Failed::Again(_) if backoff.wait().await => Ok(()),
        Failed::Again(what) => Err(shard.away(&what)),
    }
}

/// Tells whether a call that failed may end otherwise when it is made again.
fn judge(error: EtcdError) -> Failed<Error> {
    let invalid = |what: String| Failed::Final(Error::new(ErrorKind::Invalid, what));
    match error {
        EtcdError::GRpcStatus(status) => {
            let what = told("a call of etcd failed", &status);
            match status.code() {
                Code::Unauthenticated
                | Code::PermissionDenied
                | Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::Unimplemented => invalid(what),
                Code::ResourceExhausted if status.message().contains("larger than max") => invalid(what),
                // `OutOfRange` too: the revision that was to be read is compacted by now.
                _ => Failed::Again(what),
            }
        }
        EtcdError::InvalidArgs(_) | EtcdError::InvalidUri(_) | EtcdError::InvalidMetadataValue(_) => {
            invalid(format!("etcd cannot be asked: {error}"))
        }
        error => Failed::Again(format!("etcd cannot be reached: {error}")),
    }
}
