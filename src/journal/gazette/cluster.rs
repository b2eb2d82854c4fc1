//! The brokers of a cluster: connections, who serves which journal, and the thread on which all of it runs.
//!
//! *Invariants.* There is one connection to a broker, whatever the number of journals. A broker that a route names is spoken
//! to only as safely as those that were given: never without TLS where these have it.
//!
//! *Does not* repeat a request: whoever makes it knows whether that is harmless.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tonic::Request;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::GazetteOptions;
use super::proto::journal_client::JournalClient;
use super::proto::{Header, Route};
use super::token::Tokens;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind};
use crate::ids::JournalName;
use crate::journal::JournalError;
use crate::remote::Threads;
use crate::sync::Mutex;

/// Bytes that a broker sends ahead of what one reader has taken.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// The same for all readers of a connection: so many that one who does not read never holds up another.
const CONNECTION_WINDOW_BYTES: u32 = i32::MAX.cast_unsigned();
/// Routes that are remembered.
const ROUTES_MAX: usize = 10_000;

/// A cluster.
pub(super) struct Cluster {
    pub(super) options: GazetteOptions,
    /// Where to ask first, as `http://host:port` or `https://host:port`; at least one.
    seeds: Vec<String>,
    tokens: Option<Tokens>,
    tls: Option<ClientTlsConfig>,
    known: Mutex<Known>,
    /// For fragments; `None` where certificates are none.
    pub(super) web: Option<reqwest::Client>,
    /// They end when the last journal is gone.
    threads: Threads,
}

#[derive(Default)]
struct Known {
    channels: HashMap<String, Channel>,
    routes: BTreeMap<JournalName, Brokers>,
    /// Which seed comes next.
    turn: usize,
}

/// The brokers of one journal.
#[derive(Clone, Debug, Default)]
struct Brokers {
    primary: Option<String>,
    any: Option<String>,
}

/// Who is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Whom {
    /// The one that takes appends.
    Primary,
    /// Whoever has the journal.
    Any,
}

impl Cluster {
    /// Makes a cluster of which some brokers are known. Nothing is asked yet.
    pub(super) fn new(seeds: Vec<String>, options: GazetteOptions) -> Result<Self, Error> {
        let is_secure = seeds.iter().any(|seed| seed.starts_with("https://"));
        if is_secure && !seeds.iter().all(|seed| seed.starts_with("https://")) {
            let what = "some brokers are named with TLS, and some without";
            return Err(Error::new(ErrorKind::Invalid, what).advise("name all in one way"));
        }
        let tls = is_secure.then(|| options.tls.config()).transpose()?;
        let threads = Threads::start("recoverylog-gazette", options.threads)?;
        let tokens = Tokens::new(&options.auth)?;
        let known = Mutex::default();
        let web = Some(web(&options)?).filter(|_| options.stores);
        Ok(Self { options, seeds, tokens, tls, known, web, threads })
    }

    /// Tells whether brokers are spoken to with TLS.
    pub(super) const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Runs `work` on the threads of the client.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        self.threads.spawn(work)
    }

    /// Runs `work` and waits for it.
    ///
    /// # Errors
    /// `Unavailable` once `deadline` has passed; the work is given up.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        journal: &JournalName,
        deadline: Deadline,
        work: impl Future<Output = Result<T, JournalError>> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.threads.wait(deadline, work).unwrap_or_else(|| {
            Err(JournalError::Unavailable {
                journal: journal.clone(),
                what: "the brokers did not answer before the deadline".into(),
            })
        })
    }

    /// Returns a client of a broker of `journal`: one that is known to have it, or the next of those that were given.
    pub(super) fn client(
        &self,
        journal: Option<&JournalName>,
        whom: Whom,
    ) -> Result<JournalClient<Channel>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let brokers = journal.and_then(|journal| known.routes.get(journal));
        let routed = brokers.and_then(|brokers| match whom {
            Whom::Primary => brokers.primary.clone(),
            Whom::Any => brokers.any.clone(),
        });
        let seed = self.seeds.get(known.turn % self.seeds.len().max(1));
        let endpoint = routed.or_else(|| seed.cloned()).ok_or("no broker is named")?;
        if let Some(channel) = known.channels.get(&endpoint) {
            return Ok(JournalClient::new(channel.clone()));
        }
        let channel = self.connect(&endpoint)?;
        known.channels.insert(endpoint, channel.clone());
        Ok(JournalClient::new(channel))
    }

    fn connect(&self, endpoint: &str) -> Result<Channel, String> {
        let failed =
            |error: tonic::transport::Error| format!("{endpoint} is no address of a broker: {error}");
        let mut to = Endpoint::from_shared(endpoint.to_owned())
            .map_err(failed)?
            .connect_timeout(self.options.connect_max)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .http2_keep_alive_interval(self.options.keep_alive)
            .keep_alive_timeout(self.options.answer_max)
            // Brokers take a test of a connection without calls for an attack.
            .keep_alive_while_idle(false)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        if let Some(tls) = &self.tls {
            to = to.tls_config(tls.clone()).map_err(failed)?;
        }
        Ok(self.threads.inside(|| to.connect_lazy()).ok_or("the client has ended")?)
    }

    /// Makes a request with what proves who asks.
    pub(super) fn request<T>(&self, message: T, may: super::token::May) -> Result<Request<T>, String> {
        let mut request = Request::new(message);
        if let Some(tokens) = &self.tokens {
            request.metadata_mut().insert("authorization", tokens.bearer(may)?);
        }
        Ok(request)
    }

    /// Remembers who has a journal; tells whether that names the one that takes appends.
    pub(super) fn learn(&self, journal: &JournalName, header: Option<&Header>) -> bool {
        let Some(route) = header.and_then(|header| header.route.as_ref()) else { return false };
        let brokers = self.brokers_of(route);
        let is_known = brokers.primary.is_some();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.routes.len() >= ROUTES_MAX && !known.routes.contains_key(journal) {
            known.routes.pop_first();
        }
        known.routes.insert(journal.clone(), brokers);
        is_known
    }

    fn brokers_of(&self, route: &Route) -> Brokers {
        let as_safe = |endpoint: &&String| {
            endpoint.starts_with("https://") || self.tls.is_none() && endpoint.starts_with("http://")
        };
        let primary = usize::try_from(route.primary).ok();
        let primary = primary.and_then(|at| route.endpoints.get(at)).filter(as_safe).cloned();
        let any = primary.clone().or_else(|| route.endpoints.iter().find(as_safe).cloned());
        Brokers { primary, any }
    }

    /// Forgets who has a journal, after a broker could not be reached or did not have it; another one is asked next.
    pub(super) fn forget(&self, journal: Option<&JournalName>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let had_route = journal.is_some_and(|journal| known.routes.remove(journal).is_some());
        if !had_route {
            known.turn = known.turn.wrapping_add(1);
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

/// Makes a client for fragments, which knows the authorities of the system: stores are not brokers.
fn web(options: &GazetteOptions) -> Result<reqwest::Client, Error> {
    let failed = |what: String| Error::new(ErrorKind::Io, format!("no client for fragment stores: {what}"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .connect_timeout(options.connect_max)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| failed(error.to_string()))
}
