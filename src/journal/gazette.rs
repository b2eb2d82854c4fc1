//! Journals in a cluster of Gazette brokers (feature `gazette`).
//!
//! A broker replicates what it is given to others, and stores it as fragments in an object store or a shared folder. One
//! connection to each broker serves all journals of a process, on threads of their own.
//!
//! *Invariants.* An append is sent once, at the offset that it names; whether one of unknown fate has committed is for its
//! owner to find out, who can tell its bytes. What brokers say is checked before it is believed: offsets, lengths, names,
//! sums. Every wait ends.
//!
//! *Does not* delete fragments: brokers have no call for it. It cannot name offset 0 for an append: to brokers that is any
//! offset, so that the first append of a journal is fenced by registers alone.

mod append;
mod cluster;
mod list;
mod pipe;
mod proto;
mod read;
mod retry;
mod store;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::append::Queue;
use self::cluster::{Cluster, Whom};
use self::proto::{
    ApplyRequest, CompressionCodec, JournalSpec, Label, LabelSelector, LabelSet, ListRequest, Status,
    apply_request, journal_spec,
};
use self::read::GazetteReader;
use self::retry::{final_error, is_lost, is_passing, refused, told};
use self::token::May;
use super::{
    Append, Appended, Capabilities, Codec, Fragment, Head, Journal, JournalError, JournalReader, Journals,
    ReadRange,
};
use crate::clock::Deadline;
use crate::completion::Completion;
use crate::error::{Error, ErrorKind};
use crate::ids::{JournalName, Offset};
use crate::remote::{Backoff, Failed, Tls};

/// The label of a journal that says what it holds, and its value for a recovery log.
const CONTENT_TYPE: (&str, &str) = ("content-type", "application/x-gazette-recoverylog");

/// Journals of a cluster.
///
/// ```no_run
/// use std::sync::Arc;
/// use recoverylog::JournalName;
/// use recoverylog::journal::{GazetteJournals, GazetteOptions, Journals};
///
/// # fn main() -> recoverylog::Result<()> {
/// let brokers = ["gazette://broker-1:8080", "gazette://broker-2:8080"];
/// let journals = Arc::new(GazetteJournals::new(brokers, GazetteOptions::default())?);
/// let log = journals.open(&JournalName::new("acme/orders-007")?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GazetteJournals {
    cluster: Arc<Cluster>,
    creates: Option<Arc<NewJournal>>,
}

/// How brokers are spoken to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GazetteOptions {
    /// What proves who asks (default: nothing).
    pub auth: Auth,
    /// How brokers are known, where they are named with TLS.
    pub tls: Tls,
    /// The folder that a `file://` store of the brokers is, where this machine has it too (default: none). Fragments below it
    /// are read from there, and not through a broker.
    pub file_root: Option<PathBuf>,
    /// Read fragments from the addresses that brokers sign, and not through a broker (default).
    pub stores: bool,
    /// Open only journals that say that they are recovery logs (default).
    pub check_content_type: bool,
    /// The longest wait for one connection (default 10 seconds).
    pub connect_max: Duration,
    /// The longest wait for one answer of a broker, or the next piece of it (default 30 seconds).
    pub answer_max: Duration,
    /// The longest time for which one append is tried (default one minute).
    pub append_max: Duration,
    /// The longest time for which one read is tried without any progress (default one minute).
    pub read_max: Duration,
    /// How often a connection with calls under way is tested (default six minutes). Brokers hang up on who asks more often
    /// than every five.
    pub keep_alive: Duration,
    /// Threads for all connections (default 1).
    pub threads: usize,
}

impl Default for GazetteOptions {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            tls: Tls::default(),
            file_root: None,
            stores: true,
            check_content_type: true,
            connect_max: Duration::from_secs(10),
            answer_max: Duration::from_secs(30),
            append_max: Duration::from_secs(60),
            read_max: Duration::from_secs(60),
            keep_alive: Duration::from_secs(360),
            threads: 1,
        }
    }
}

/// What proves who asks.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// A token that was given: it is sent as it is.
    Token(String),
    /// Keys as brokers get them in `AUTH_KEYS`, in base64, between commas or spaces: each request carries a token that the
    /// first one signed.
    Keys(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Token(_) => "Token(..)",
            Self::Keys(_) => "Keys(..)",
        })
    }
}

/// What a journal is to be that is created.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewJournal {
    /// Brokers that hold each byte before an append is acknowledged (default 3).
    pub replication: u16,
    /// Bytes of content after which a fragment ends (default 64 MiB).
    pub fragment_bytes: u64,
    /// How fragments are compressed (default snappy).
    pub codec: Codec,
    /// Addresses of stores, such as `s3://bucket/folder/`, the first of which fragments go to.
    pub stores: Vec<String>,
    /// How often brokers look what is in the stores (default five minutes).
    pub refresh_every: Duration,
    /// How long a fragment is written to at most (default one day); brokers take no less than a minute.
    pub flush_every: Duration,
    /// Further labels.
    pub labels: Vec<(String, String)>,
}

impl NewJournal {
    /// Describes a journal whose fragments go to `store`.
    pub fn new(store: impl Into<String>) -> Self {
        Self {
            replication: 3,
            fragment_bytes: 64 << 20,
            codec: Codec::Snappy,
            stores: vec![store.into()],
            refresh_every: Duration::from_secs(300),
            flush_every: Duration::from_secs(24 * 3600),
            labels: Vec::new(),
        }
    }

    fn spec(&self, name: &JournalName) -> JournalSpec {
        let duration = |duration: Duration| proto::Duration {
            seconds: duration.as_secs().cast_signed(),
            nanos: duration.subsec_nanos().cast_signed(),
        };
        let codec = match self.codec {
            Codec::None => CompressionCodec::None,
            Codec::Gzip => CompressionCodec::Gzip,
            Codec::Zstandard => CompressionCodec::Zstandard,
            Codec::Snappy => CompressionCodec::Snappy,
            Codec::GzipOffloadDecompression => CompressionCodec::GzipOffloadDecompression,
        };
        let mut labels: Vec<_> = self.labels.iter().map(|(name, value)| label(name, value)).collect();
        labels.push(label(CONTENT_TYPE.0, CONTENT_TYPE.1));
        // Brokers refuse a set that is not sorted.
        labels.sort_by(|one, other| (&one.name, &one.value).cmp(&(&other.name, &other.value)));
        JournalSpec {
            name: name.as_str().to_owned(),
            replication: i32::from(self.replication),
            labels: Some(LabelSet { labels }),
            fragment: Some(journal_spec::Fragment {
                length: self.fragment_bytes.cast_signed(),
                compression_codec: codec.into(),
                stores: self.stores.clone(),
                refresh_interval: Some(duration(self.refresh_every)),
                flush_interval: Some(duration(self.flush_every)),
                ..journal_spec::Fragment::default()
            }),
            ..JournalSpec::default()
        }
    }
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.to_owned(), value: value.to_owned(), prefix: false }
}

impl GazetteJournals {
    /// Names a cluster by some of its brokers, as `gazette://host:port` or `http://host:port`, with TLS as
    /// `gazettes://host:port` or `https://host:port`. Nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` where no broker is named, one is named otherwise, or keys and certificates are none; `Io` where no thread can
    /// be started.
    pub fn new<S: AsRef<str>>(
        brokers: impl IntoIterator<Item = S>,
        options: GazetteOptions,
    ) -> Result<Self, Error> {
        let seeds = brokers.into_iter().map(|broker| seed(broker.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if seeds.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "no broker is named"));
        }
        Ok(Self { cluster: Arc::new(Cluster::new(seeds, options)?), creates: None })
    }

    /// Names a cluster by an address: `gazette://host:port,host:port`, or `gazettes://` with TLS. Nothing is asked yet.
    ///
    /// # Errors
    /// As those of [`GazetteJournals::new`].
    pub fn at(url: &str, options: GazetteOptions) -> Result<Self, Error> {
        let (scheme, brokers) = url.split_once("://").unwrap_or(("", url));
        Self::new(brokers.split(',').map(|broker| format!("{scheme}://{broker}")), options)
    }

    /// Creates a journal that is opened and not there.
    #[must_use]
    pub fn creating(mut self, journal: NewJournal) -> Self {
        self.creates = Some(Arc::new(journal));
        self
    }

    /// Creates a recovery log, and waits until brokers serve it.
    ///
    /// # Errors
    /// `Invalid` where a journal of the name is there, or the brokers refuse what it is to be; `Unavailable` where they do not
    /// serve it before `deadline`.
    pub fn create(&self, name: &JournalName, journal: &NewJournal, deadline: Deadline) -> Result<(), Error> {
        self.create_served(name, journal, deadline).map_err(Error::from)
    }

    fn create_served(
        &self,
        name: &JournalName,
        journal: &NewJournal,
        deadline: Deadline,
    ) -> Result<(), JournalError> {
        let (cluster, spec, asked) = (Arc::clone(&self.cluster), journal.spec(name), name.clone());
        self.cluster.wait(name, deadline, async move {
            create(&cluster, &asked, spec, deadline).await?;
            append::send(&cluster, &asked, Append::default(), deadline).await.map(drop)
        })
    }

    /// Has the brokers of a journal go on behind what its store holds, and returns where that is: once after the journal of a
    /// folder was retired and a journal of its name was created over it, and after all brokers of a journal were lost. Until
    /// then each append is refused with `Diverged`.
    ///
    /// What brokers had acknowledged and not stored is given up by this. Whoever has recorded it is refused from then on, and a
    /// recovery by hints that name it fails: nothing else takes its place unseen.
    ///
    /// # Errors
    /// Those of listing fragments and of appending.
    pub fn reset_head(&self, name: &JournalName, deadline: Deadline) -> Result<Offset, Error> {
        let (cluster, asked) = (Arc::clone(&self.cluster), name.clone());
        let reset = self.cluster.wait(name, deadline, async move {
            let stored = list::fragments(&cluster, &asked, deadline).await?;
            let end = stored.iter().map(|fragment| fragment.end).max().filter(|end| *end > Offset::ZERO);
            let append = end.map_or_else(Append::default, |end| Append::default().at(end));
            append::send(&cluster, &asked, append, deadline).await
        });
        Ok(reset?.end)
    }

    fn find(&self, name: &JournalName, deadline: Deadline) -> Result<Option<JournalSpec>, JournalError> {
        let selector = LabelSet { labels: vec![label("name", name.as_str())] };
        let specs = self.specs(name, selector, deadline)?;
        Ok(specs.into_iter().find(|spec| spec.name == name.as_str()))
    }

    fn specs(
        &self,
        asker: &JournalName,
        include: LabelSet,
        deadline: Deadline,
    ) -> Result<Vec<JournalSpec>, JournalError> {
        let (cluster, name) = (Arc::clone(&self.cluster), asker.clone());
        self.cluster.wait(asker, deadline, async move { list(&cluster, &name, include, deadline).await })
    }

    fn patience(&self) -> Deadline {
        Deadline::after(self.cluster.options.append_max)
    }
}

impl Journals for GazetteJournals {
    fn open(&self, name: &JournalName) -> Result<Arc<dyn Journal>, JournalError> {
        let deadline = self.patience();
        match (self.find(name, deadline)?, &self.creates) {
            (Some(spec), _) => self.check(name, &spec)?,
            (None, None) => return Err(JournalError::NotFound { journal: name.clone() }),
            (None, Some(new)) => {
                if let Err(error) = self.create_served(name, new, deadline) {
                    // Somebody else may have created it meanwhile.
                    let Some(spec) = self.find(name, deadline)? else { return Err(error) };
                    self.check(name, &spec)?;
                }
            }
        }
        Ok(Arc::new(GazetteJournal {
            name: name.clone(),
            cluster: Arc::clone(&self.cluster),
            queue: Arc::default(),
        }))
    }

    fn list(&self) -> Result<Vec<JournalName>, Error> {
        let include = LabelSet { labels: vec![label(CONTENT_TYPE.0, CONTENT_TYPE.1)] };
        let asker = JournalName::new("every/journal")
            .map_err(|e| Error::new(ErrorKind::Invalid, "no name to ask with").with_source(e))?;
        let specs = self.specs(&asker, include, self.patience())?;
        let mut names = Vec::with_capacity(specs.len());
        for spec in specs {
            names.push(JournalName::new(&spec.name).map_err(|e| {
                Error::new(ErrorKind::Corrupt, "a broker lists a journal whose name is none").with_source(e)
            })?);
        }
        names.sort();
        Ok(names)
    }
}

impl GazetteJournals {
    fn check(&self, name: &JournalName, spec: &JournalSpec) -> Result<(), JournalError> {
        let labels = spec.labels.iter().flat_map(|labels| &labels.labels);
        let types: Vec<_> =
            labels.filter(|label| label.name == CONTENT_TYPE.0).map(|label| &label.value).collect();
        if self.cluster.options.check_content_type && types != [CONTENT_TYPE.1] {
            return Err(JournalError::Invalid {
                journal: name.clone(),
                what: format!(
                    "its label {} is {types:?}, and not {}: it is no recovery log",
                    CONTENT_TYPE.0, CONTENT_TYPE.1
                ),
            });
        }
        Ok(())
    }
}

/// A journal of a cluster.
pub struct GazetteJournal {
    name: JournalName,
    cluster: Arc<Cluster>,
    queue: Arc<Queue>,
}

impl Journal for GazetteJournal {
    fn name(&self) -> &JournalName {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { at_zero: false, prune: false, ..Capabilities::ALL }
    }

    fn submit(&self, append: Append) -> Completion<Appended, JournalError> {
        self.queue.submit(&self.cluster, &self.name, append)
    }

    fn head(&self, deadline: Deadline) -> Result<Head, JournalError> {
        let (cluster, name) = (Arc::clone(&self.cluster), self.name.clone());
        let asked = self.cluster.wait(&self.name, deadline, async move {
            append::send(&cluster, &name, Append::default(), deadline).await
        });
        asked.map(|Appended { end, registers, .. }| Head::new(end, registers))
    }

    fn read(&self, range: ReadRange) -> Result<Box<dyn JournalReader>, JournalError> {
        range.check(&self.name)?;
        Ok(Box::new(GazetteReader::new(&self.cluster, &self.name, range)))
    }

    fn fragments(&self, deadline: Deadline) -> Result<Vec<Fragment>, JournalError> {
        let (cluster, name) = (Arc::clone(&self.cluster), self.name.clone());
        self.cluster.wait(
            &self.name,
            deadline,
            async move { list::fragments(&cluster, &name, deadline).await },
        )
    }

    fn prune(&self, _fragments: &[Fragment], _deadline: Deadline) -> Result<(), JournalError> {
        let what = "brokers have no call that deletes fragments: delete them in their store";
        Err(JournalError::NotAllowed { journal: self.name.clone(), what: what.into() })
    }
}

impl fmt::Debug for GazetteJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GazetteJournal").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns the address of a broker as the transport takes it.
fn seed(broker: &str) -> Result<String, Error> {
    let schemes = [
        ("gazette://", "http://"),
        ("gazettes://", "https://"),
        ("http://", "http://"),
        ("https://", "https://"),
    ];
    let found = schemes.iter().find_map(|(scheme, meant)| Some((meant, broker.strip_prefix(scheme)?)));
    let Some((scheme, rest)) = found else {
        return Err(Error::new(ErrorKind::Invalid, "a broker is named by an address that is none")
            .expected("gazette://host:port", broker));
    };
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '?', '#', '@']) {
        return Err(Error::new(
            ErrorKind::Invalid,
            "a broker is named by more or less than a host and a port",
        )
        .expected("gazette://host:port", broker));
    }
    Ok(format!("{scheme}{rest}"))
}

async fn create(
    cluster: &Cluster,
    name: &JournalName,
    spec: JournalSpec,
    deadline: Deadline,
) -> Result<(), JournalError> {
    let change = apply_request::Change { upsert: Some(spec), ..apply_request::Change::default() };
    let message = ApplyRequest { changes: vec![change] };
    let mut backoff = Backoff::new(deadline);
    loop {
        let tried = async {
            let mut client = cluster.client(None, Whom::Any)?;
            let request = cluster.request(message.clone(), May::Apply)?;
            Ok::<_, String>(tokio::time::timeout(deadline.remaining(), client.apply(request)).await)
        };
        let what = match tried.await {
            Ok(Ok(Ok(response))) => match response.into_inner().status() {
                Status::Ok => return Ok(()),
                Status::EtcdTransactionFailed => {
                    let what = "a journal of this name is there, or was created just now";
                    return Err(JournalError::Invalid { journal: name.clone(), what: what.into() });
                }
                status if is_passing(status) => format!("the broker answered {status}"),
                status => return Err(refused(name, status)),
            },
            // Whether it was done is seen when it is tried again.
            Ok(Ok(Err(status))) if is_lost(&status) => told(&status),
            Ok(Ok(Err(status))) => {
                let what = told(&status);
                let refused = JournalError::Invalid { journal: name.clone(), what };
                return Err(final_error(name, &status).unwrap_or(refused));
            }
            Ok(Err(_)) => "the broker did not answer before the deadline".into(),
            Err(what) => what,
        };
        cluster.forget(None);
        if !backoff.wait().await {
            return Err(JournalError::Unavailable { journal: name.clone(), what });
        }
    }
}

async fn list(
    cluster: &Cluster,
    name: &JournalName,
    include: LabelSet,
    deadline: Deadline,
) -> Result<Vec<JournalSpec>, JournalError> {
    let selector = LabelSelector { include: Some(include), exclude: None };
    let message = ListRequest { selector: Some(selector), ..ListRequest::default() };
    let mut backoff = Backoff::new(deadline);
    loop {
        let what = match tokio::time::timeout(deadline.remaining(), list_once(cluster, name, message.clone()))
            .await
        {
            Ok(Ok(specs)) => return Ok(specs),
            Ok(Err(Failed::Final(error))) => return Err(error),
            Ok(Err(Failed::Again(what))) => what,
            Err(_) => "the broker did not list before the deadline".into(),
        };
        cluster.forget(None);
        if !backoff.wait().await {
            return Err(JournalError::Unavailable { journal: name.clone(), what });
        }
    }
}

async fn list_once(
    cluster: &Cluster,
    name: &JournalName,
    message: ListRequest,
) -> Result<Vec<JournalSpec>, Failed<JournalError>> {
    let failed = |status: tonic::Status| {
        final_error(name, &status).map_or_else(|| Failed::Again(told(&status)), Failed::Final)
    };
    let mut client = cluster.client(None, Whom::Any).map_err(Failed::Again)?;
    let request = cluster.request(message, May::List).map_err(Failed::Again)?;
    let mut responses = client.list(request).await.map_err(failed)?.into_inner();
    let mut specs = Vec::new();
    while let Some(response) = responses.message().await.map_err(failed)? {
        match response.status() {
            Status::Ok => {}
            status if is_passing(status) => {
                return Err(Failed::Again(format!("the broker answered {status}")));
            }
            status => return Err(Failed::Final(refused(name, status))),
        }
        specs.extend(response.journals.into_iter().filter_map(|journal| journal.spec));
    }
    Ok(specs)
}
