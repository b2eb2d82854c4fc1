//! Hint sets in etcd, under the keys of Gazette's consumers (feature `etcd`).
//!
//! A shard has a key `KEY.primary`, which its primary writes over and over, and keys `KEY.backup.0`, `KEY.backup.1` and so on:
//! one set of each of the last terms, the newest first, to fall back on. Consumers of the reference read and write the same
//! keys.
//!
//! *Invariants.* A set is stored in a transaction that changes nothing unless every key of the shard is as it was when the
//! decision was made, and unless whoever stores still has its assignment, where that was given. Where the backups are too
//! large to be moved in one transaction, they are moved one by one, the oldest first: each set is in one key at least at any
//! time, but for the one that falls out.
//!
//! *Does not* remove keys, and leaves those of backups alone that are more than it was told of; it reads them.

mod cluster;
mod shard;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use self::cluster::Cluster;
use self::shard::{BACKUPS_MAX, Shard, Slot, Slots, Value};
use super::{Candidate, HintStore, refuse_larger, sort_candidates};
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::hints::FsmHints;
use crate::ids::JournalName;
use crate::remote::Tls;

/// The largest set where nothing else is said: an etcd takes requests of 1.5 MiB, with the keys and conditions in them.
const SET_BYTES_MAX: usize = 1_500_000;

/// An etcd cluster: one connection to each of its members serves the hints of all shards of a process.
///
/// ```no_run
/// use std::sync::Arc;
/// use recoverylog::hint_store::{Etcd, EtcdOptions};
///
/// # fn main() -> recoverylog::Result<()> {
/// let etcd = Etcd::new(["etcd://etcd-1:2379", "etcd://etcd-2:2379"], EtcdOptions::default())?;
/// let hints = Arc::new(etcd.hints("/gazette/hints/orders-007")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Etcd {
    cluster: Arc<Cluster>,
}

/// How etcd is spoken to.
#[derive(Clone)]
#[non_exhaustive]
pub struct EtcdOptions {
    /// A user's name and password (default: none).
    pub user: Option<(String, String)>,
    /// How members are known, where they are named with TLS.
    pub tls: Tls,
    /// The longest wait for a connection (default 5 seconds).
    pub connect_max: Duration,
    /// The longest wait for one answer (default 5 seconds); what was asked is then asked again, as long as the call's deadline
    /// allows.
    pub answer_max: Duration,
    /// How often a connection with calls under way is tested (default 30 seconds). An etcd hangs up on who asks more often than
    /// every 5.
    pub keep_alive: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            user: None,
            tls: Tls::default(),
            connect_max: Duration::from_secs(5),
            answer_max: Duration::from_secs(5),
            keep_alive: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.tls)
            .field("answer_max", &self.answer_max)
            .finish_non_exhaustive()
    }
}

impl Etcd {
    /// Names a cluster by its members, as `etcd://host:port` or `http://host:port`, with TLS as `etcds://host:port` or
    /// `https://host:port`. Nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` where no member is named, or one is named otherwise; `Io` where no thread can be started.
    pub fn new<S: AsRef<str>>(members: impl IntoIterator<Item = S>, options: EtcdOptions) -> Result<Self> {
        let members = members.into_iter().map(|name| member(name.as_ref())).collect::<Result<Vec<_>>>()?;
        let secure = members.iter().filter(|member| is_secure(member)).count();
        if members.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no member of an etcd cluster is named"));
        }
        if secure != 0 && secure != members.len() {
            let what = "some members of an etcd cluster are named with TLS, and some without";
            return Err(Error::new(ErrorKind::Invalid, what).advise("name all in one way"));
        }
        Ok(Self { cluster: Arc::new(Cluster::new(members, options)?) })
    }

    /// Returns the hints of the shard that has the keys `KEY.primary` and `KEY.backup.0`: Gazette's `PREFIX/SHARD`. Nothing is
    /// asked yet.
    ///
    /// # Errors
    /// `Invalid` where `key` is empty, or ends in a slash.
    pub fn hints(&self, key: impl Into<String>) -> Result<EtcdHints> {
        let key = key.into();
        if key.is_empty() || key.ends_with('/') {
            let error = Error::new(ErrorKind::Invalid, "an etcd key of hints names no shard");
            return Err(error.expected("PREFIX/SHARD", format_args!("{key:?}")));
        }
        Ok(EtcdHints {
            cluster: Arc::clone(&self.cluster),
            shard: Shard { key, backups: 3, bytes_max: SET_BYTES_MAX, assignment: None },
        })
    }
}

/// Hint sets of one shard in etcd.
///
/// A set that its author stores for the first time goes into the first backup too, and pushes the others on until one falls
/// into a free key, or out; the author's later sets replace the primary's only.
#[derive(Clone, Debug)]
pub struct EtcdHints {
    cluster: Arc<Cluster>,
    shard: Shard,
}

impl EtcdHints {
    /// Names the hints of one shard by an address: `etcd://host:port,host:port/PREFIX/SHARD`, or `etcds://` with TLS, and
    /// `?backups=N` behind it where that is not 3. The keys begin with the slash behind the members. Nothing is asked yet.
    ///
    /// # Errors
    /// As those of [`Etcd::new`] and [`Etcd::hints`], and `Invalid` where the address is none.
    pub fn at(url: &str, options: EtcdOptions) -> Result<Self> {
        let invalid = |actual: &str| {
            let error = Error::new(ErrorKind::Invalid, "this is no address of hints in etcd");
            error.expected("etcd://host:port/PREFIX/SHARD", actual)
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid(url))?;
        let (members, key) = rest.split_once('/').ok_or_else(|| invalid(url))?;
        let (key, query) = key.split_once('?').map_or((key, None), |(key, query)| (key, Some(query)));
        let etcd = Etcd::new(members.split(',').map(|member| format!("{scheme}://{member}")), options)?;
        let hints = etcd.hints(format!("/{key}"))?;
        let Some(query) = query else { return Ok(hints) };
        let backups = query.strip_prefix("backups=").and_then(|backups| backups.parse().ok());
        let backups = backups.filter(|backups| *backups <= BACKUPS_MAX).ok_or_else(|| invalid(query))?;
        Ok(hints.backups(backups))
    }

    /// Moves sets among so many keys of backups (default 3), of at most 100. Where consumers of the reference have the shard
    /// too, say what its specification says as `hint_backups`.
    #[must_use]
    pub fn backups(mut self, backups: u32) -> Self {
        self.shard.backups = backups.min(BACKUPS_MAX);
        self
    }

    /// Takes sets of at most so many bytes (default 1,500,000): the `--max-request-bytes` of the etcd, without some for keys and
    /// conditions.
    #[must_use]
    pub const fn bytes_max(mut self, bytes_max: usize) -> Self {
        self.shard.bytes_max = bytes_max;
        self
    }

    /// Stores only while `key` is there as it was created at `create_revision`: Gazette's assignment of the shard to this
    /// process, or a key of an election. [`ErrorKind::Fenced`] is what a store says otherwise.
    #[must_use]
    pub fn assigned(mut self, key: impl Into<Vec<u8>>, create_revision: i64) -> Self {
        self.shard.assignment = Some((key.into(), create_revision));
        self
    }

    /// Stores a set in the first backup, as a consumer of the reference does with the one that it has recovered by.
    /// [`HintStore::store`] does so by itself where an author stores for the first time.
    ///
    /// # Errors
    /// As those of [`HintStore::store`].
    pub fn store_recovered(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        self.put(hints, Slots::Backups, deadline)
    }

    /// Stores a set in the primary's key alone, as a consumer of the reference does with the one that it records by.
    ///
    /// # Errors
    /// As those of [`HintStore::store`].
    pub fn store_recorded(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        self.put(hints, Slots::Primary, deadline)
    }

    fn put(&self, hints: &FsmHints, slots: Slots, deadline: Deadline) -> Result<()> {
        refuse_larger(hints, self.shard.bytes_max)?;
        let (cluster, shard, hints) = (Arc::clone(&self.cluster), self.shard.clone(), hints.clone());
        self.wait(deadline, async move { cluster.store(&shard, &hints, slots, deadline).await })
    }

    /// Runs `work` on the thread of the cluster until `deadline`.
    fn wait<T: Send + 'static>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let away = || Err(self.shard.away("no answer before the deadline"));
        self.cluster.threads().wait(deadline, work).unwrap_or_else(away)
    }
}

impl HintStore for EtcdHints {
    fn candidates(&self, log: &JournalName, deadline: Deadline) -> Result<Vec<Candidate>> {
        let (cluster, shard) = (Arc::clone(&self.cluster), self.shard.clone());
        let held = self.wait(deadline, async move { cluster.held(&shard, deadline).await })?;
        let of = |(slot, value): (Slot, Value)| {
            let name = format!("etcd key {}", self.shard.key(slot));
            let hints = value.decode().map_err(|error| {
                let what = format!("no hints in {name}");
                Error::new(error.kind(), what).with_source(error).advise("use other hints")
            });
            Candidate::new(name, hints)
        };
        // A set may be in two keys: it is one candidate, by the better one.
        let mut apart: Vec<(Slot, Value)> = Vec::new();
        for (slot, value) in held {
            if apart.iter().all(|(_, other)| other.bytes != value.bytes) {
                apart.push((slot, value));
            }
        }
        let mut candidates: Vec<_> = apart.into_iter().map(of).collect();
        sort_candidates(&mut candidates, log);
        Ok(candidates)
    }

    fn store(&self, hints: &FsmHints, deadline: Deadline) -> Result<()> {
        self.put(hints, Slots::ByTerm, deadline)
    }

    fn bytes_max(&self) -> Option<usize> {
        Some(self.shard.bytes_max)
    }
}

/// Returns the address of a member as the transport takes it.
fn member(name: &str) -> Result<String> {
    let invalid = || {
        let error = Error::new(ErrorKind::Invalid, "this is no address of a member of an etcd cluster");
        error.expected("etcd://host:port, or etcds://host:port", name)
    };
    let (scheme, rest) = name.split_once("://").ok_or_else(invalid)?;
    let scheme = match scheme {
        "etcd" | "http" => "http",
        "etcds" | "https" => "https",
        _ => return Err(invalid()),
    };
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        return Err(invalid());
    }
    Ok(format!("{scheme}://{authority}"))
}

fn is_secure(member: &str) -> bool {
    member.starts_with("https://")
}
